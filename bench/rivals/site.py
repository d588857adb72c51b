"""A server with one way under test, its workers if it has some, and the ledger of both."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import servers
from ..signals import signals_deferred
from . import ways
from .apps import BROKER
from .ways import CELERY_CONCURRENCY, DB_WORKERS, Way
from .work import LEDGER, WAY, Ledger

START_TIMEOUT = 30.0
STOP_TIMEOUT = 60.0
"""Seconds after SIGTERM; nothing that is measured has less of its own."""


@dataclass(slots=True)
class Site:
    """What the judge sees of it."""

    way: Way
    ledger: Ledger
    server: servers.Started
    environment: Mapping[str, str]
    directory: Path
    stack: contextlib.ExitStack
    workers: "list[Process]" = field(default_factory=list)
    is_terminated: bool = False

    @property
    def port(self) -> int:
        return self.server.port

    def terminate(self) -> None:
        """SIGTERM to the server, and to the workers, as in a deployment; until all have ended."""
        self.is_terminated = True
        processes: Sequence[subprocess.Popen[Any]] = (
            self.server.process,
            *(worker.process for worker in self.workers),
        )
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(STOP_TIMEOUT)

    def start_workers(self) -> None:
        """Those that come after a deployment too."""
        self.workers = []
        if self.way.workers == "db_worker":
            command = [sys.executable, "-m", "django", "db_worker"]
            for _ in range(DB_WORKERS):
                self._start(command)
        elif self.way.workers == "celery":
            options = ["--loglevel", "WARNING", "--concurrency", str(CELERY_CONCURRENCY)]
            application = ["-A", "bench.rivals.apps.celery_app:app"]
            self._start([sys.executable, "-m", "celery", *application, "worker", *options])

    def _start(self, command: list[str]) -> None:
        log = self.directory / f"worker-{len(list(self.directory.iterdir()))}.log"
        worker = self.stack.enter_context(running_process(command, log, self.environment))
        self.workers.append(worker)

    def check(self) -> None:
        """Where a process has ended by itself, what was counted says nothing of the way."""
        if not self.is_terminated and self.server.process.poll() is not None:
            raise RuntimeError(f"the server has ended:\n{self.server.log.tail()}")
        for worker in self.workers:
            if worker.process.poll() is not None:
                raise RuntimeError(f"a worker has ended:\n{worker.log.read_text()}")

    def worker_logs(self) -> str:
        return "".join(log.read_text() for log in self.directory.glob("worker-*.log"))


@dataclass(frozen=True, slots=True)
class Process:
    """One beside the server."""

    process: "subprocess.Popen[bytes]"
    log: Path


@contextlib.contextmanager
def running_process(
    command: list[str], log: Path, environment: Mapping[str, str]
) -> Iterator[Process]:
    with contextlib.ExitStack() as stack:
        with signals_deferred(), log.open("wb") as output:
            started = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C must reach this process alone, which ends it.
                start_new_session=True,
                env=environment,
            )
            stack.callback(_end, started)
        yield Process(started, log)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """What it still has to do does not matter any more."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def site(way: Way) -> Iterator[Site]:
    """Fresh: a server process of its own, an empty ledger, an empty queue."""
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="rivals-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        environment = {
            LEDGER: str(directory / "ledger"),
            WAY: way.name,
            "DJANGO_SETTINGS_MODULE": "bench.rivals.apps.settings",
        }
        ledger = Ledger(directory / "ledger")
        if way.workers == "celery":
            environment[BROKER] = stack.enter_context(running_redis(directory))
        everything = {**os.environ, **environment}
        if way.workers == "db_worker":
            migrate = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
            subprocess.run(migrate, env=everything, check=True, timeout=START_TIMEOUT)
        server = stack.enter_context(_server(way, environment))
        found = Site(way, ledger, server, everything, directory, stack)
        found.start_workers()
        yield found


@contextlib.contextmanager
def _server(way: Way, environment: Mapping[str, str]) -> Iterator[servers.Started]:
    application = servers.uvicorn(way.app, http="httptools", loop="asyncio")
    server = None
    try:
        with servers.started(application, environment=environment) as server:
            yield server
    finally:
        if server is not None and server.process.stderr is not None:
            server.log.counts()  # until it has been read to its end
            server.process.stderr.close()


@contextlib.contextmanager
def running_redis(directory: Path) -> Iterator[str]:
    """Its URL. It keeps nothing on the disk."""
    program = ways.redis()
    assert program is not None
    port = servers.free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    options += ["--dir", str(directory)]
    log = directory / "redis.log"
    with running_process([program, *options], log, os.environ) as redis:
        _await(lambda: b"PONG" in _ping(port), redis)
        yield f"redis://127.0.0.1:{port}/0"


def _ping(port: int) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(100)
    except OSError:
        return b""


def _await(is_ready: Callable[[], bool], of: Process) -> None:
    until = time.monotonic() + START_TIMEOUT
    while time.monotonic() < until and of.process.poll() is None:
        if is_ready():
            return
        time.sleep(0.02)
    raise RuntimeError(f"it did not start:\n{of.log.read_text()}")
