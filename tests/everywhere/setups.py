"""The six set-ups: how each is started and asked, and which promises differ."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from tests.processes import refuse_in_process
from tests.servers.client import DEADLINE
from tests.servers.harness import ROOT, Server, wait_until
from tests.servers.launch import Config, way_through

VARIABLE = "ASYNC_AFTER_EVERYWHERE"
"""``wrapped``: asgi.py or wsgi.py wrap the application. ``middleware``: the
Django middleware alone."""
DATABASE = "ASYNC_AFTER_EVERYWHERE_DATABASE"
NAME = "database.sqlite3"
LIMIT, PENDING_LIMIT = 4, 16


@dataclass(frozen=True)
class Setup:
    """``server``: a key of ``launch.SERVERS``, or Django's ``Client`` or ``AsyncClient``.

    The flags below are all in which the set-ups differ.
    """

    server: str
    is_wrapped: bool = False

    @property
    def knows_what_views_raise(self) -> bool:
        """The Django middleware hears it; a wrapper sees Django's page of status 500."""
        return not self.is_wrapped

    @property
    def counts_files(self) -> bool:
        """What the server sends from a file by itself (``wsgi.file_wrapper``) nobody sees."""
        return self.server != "gunicorn-gthread"

    @property
    def connections(self) -> int:
        """What is open at rest: a test client leaves the test its connection,
        which may be in a transaction. Elsewhere callbacks leave none."""
        return int(self.is_client)

    @property
    def has_callback_threads(self) -> bool:
        """A test client runs plain functions in the thread of the test (which
        its transaction belongs to), so that no two of them overlap."""
        return not self.is_client

    @property
    def has_limit(self) -> bool:
        """Callbacks of a test client run inline: nobody bounds them, and nobody drops one."""
        return not self.is_client

    @property
    def is_client(self) -> bool:
        return self.server.endswith("Client")

    @property
    def way(self) -> str:
        return way_through(self.server, is_wrapped=self.is_wrapped)

    def __str__(self) -> str:
        return f"{self.server}-{'wrapped' if self.is_wrapped else 'middleware'}"


SETUPS = [
    Setup("uvicorn", is_wrapped=True),
    Setup("uvicorn"),
    Setup("gunicorn-gthread", is_wrapped=True),
    Setup("gunicorn-gthread"),
    Setup("Client"),
    Setup("AsyncClient"),
]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    """Names in lower case; a server's values too."""
    body: bytes


class Door(Protocol):
    """The way in to a project that is being served."""

    def ask(self, method: str, target: str, headers: Mapping[str, str]) -> Reply: ...

    def stderr(self) -> str: ...

    def stop(self) -> None: ...


class _Served:
    def __init__(self, server: str, directory: Path, env: Mapping[str, str]) -> None:
        module = "asgi" if server == "uvicorn" else "wsgi"
        config = Config(
            app=f"tests.everywhere.{module}:application", server=server, env=(*env.items(),)
        )
        self._server = Server(config, directory)
        self.stderr = self._server.stderr

    def ask(self, method: str, target: str, headers: Mapping[str, str]) -> Reply:
        lines = [f"{name}: {value}" for name, value in headers.items()]
        found = self._server.get(target, method=method, headers=(*lines,))
        return Reply(found.status, found.headers, found.body)

    def stop(self) -> None:
        try:
            self._server.check()
        finally:
            self._server.stop()


class _Clients:
    """See ``clients.py``."""

    def __init__(self, kind: str, directory: Path, env: Mapping[str, str]) -> None:
        refuse_in_process(f"a process of {kind} clients")
        self._arguments = [sys.executable, "-X", "faulthandler", "-m", "tests.everywhere.clients"]
        self._arguments.append(kind)
        self._env = {**os.environ, "PYTHONDEVMODE": "", **env}
        self._path = directory / f"{kind}.stderr"
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self._path.open("ab") as stderr:
            return subprocess.Popen(
                self._arguments,
                cwd=ROOT,
                env=self._env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )

    def ask(self, method: str, target: str, headers: Mapping[str, str]) -> Reply:
        if self._process.poll() is not None:  # the test before this one has failed
            self._process = self._start()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        asked = {"method": method, "path": target, "headers": headers}
        stdin.write(f"{json.dumps(asked)}\n".encode())
        stdin.flush()
        # One answer is there at a time, so that no buffer holds another.
        is_answered = bool(select.select([stdout], [], [], DEADLINE)[0])
        line = stdout.readline() if is_answered else b""
        if not line:
            with self._process:  # closes its pipes
                self._process.send_signal(signal.SIGABRT)  # faulthandler tells where it is
            raise AssertionError(f"no answer to {method} {target}\n{self.stderr()[-6000:]}")
        told = json.loads(line)
        return Reply(told["status"], told["headers"], told["body"].encode("latin-1"))

    def stderr(self) -> str:
        return self._path.read_text(errors="replace")

    def stop(self) -> None:
        """The end of its input ends it, unless it hangs."""
        if self._process.poll() is None:
            with self._process:
                try:
                    self._process.communicate(timeout=DEADLINE)
                finally:
                    self._process.kill()
        assert self._process.returncode in (0, -signal.SIGABRT), self.stderr()


@dataclass(frozen=True)
class Visit:
    """One request, and what became of its callbacks."""

    reply: Reply
    ident: str
    notes: list[Any]
    """What view and callbacks noted, in order."""
    callbacks: list[dict[str, Any]]
    """In the order of their registration."""
    process: int

    @property
    def states(self) -> list[str]:
        return [callback["state"] for callback in self.callbacks]


class Site:
    """The project in one of the set-ups."""

    def __init__(self, setup: Setup, directory: Path) -> None:
        self.setup = setup
        self.database = directory / NAME
        variant = "wrapped" if setup.is_wrapped else "middleware"
        env = {VARIABLE: variant, DATABASE: str(self.database)}
        self._idents = count(1)
        self._door: Door
        if setup.is_client:
            kind = "async" if setup.server == "AsyncClient" else "sync"
            self._door = _Clients(kind, directory, env)
        else:
            self._door = _Served(setup.server, directory, env)
        self.stderr = self._door.stderr
        self.stop = self._door.stop

    def visit(
        self,
        view: str,
        query: str = "",
        *,
        callbacks: int,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> Visit:
        """Ask a view, and wait until all its callbacks have ended; exactly so
        many it must have."""
        ident = f"r{next(self._idents)}"
        reply = self._door.ask(method, f"/{view}/{ident}{query}", headers or {})
        told: dict[str, Any] = {}

        def is_over() -> bool:
            told.update(json.loads(self._door.ask("GET", f"/told/{ident}", {}).body))
            ended = [callback for callback in told["callbacks"] if callback["is_done"]]
            return len(ended) >= callbacks

        wait_until(is_over, lambda: f"not all ended: {told}\n{reply}\n{self.stderr()[-6000:]}")
        assert len(told["callbacks"]) == callbacks, told
        return Visit(reply, ident, told["notes"], told["callbacks"], told["process"])
