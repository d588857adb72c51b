"""Starts the site with a database of its own in a uvicorn process, and asks it."""

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.processes import refuse_in_process
from tests.servers.launch import way_through

from .postgresql import PostgreSQL

ROOT = Path(__file__).parents[2]
DEADLINE = 30.0
"""Seconds after which a test gives up; nothing here takes a tenth of it."""
VARIABLE = "ASYNC_AFTER_DBSITE"


def wait_until(condition: Callable[[], object], problem: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(problem())
        time.sleep(0.005)


@dataclass(frozen=True)
class Config:
    """What a site is started with; tests with equal ones share a process."""

    vendor: str = "sqlite"
    max_age: int = 0
    pool: tuple[tuple[str, Any], ...] = ()
    has_health_checks: bool = False
    is_wrapped: bool = True
    max_threads: int = 3
    server: str = "uvicorn"
    """Or "waitress", for WSGI."""
    wsgi_lane: str = "threads"
    is_atomic: bool = False
    """Whether the settings say ATOMIC_REQUESTS."""
    has_other: bool = False
    """Whether there is a second database, "other"."""
    number: int = 0
    """Other than 0: a process that no other test uses, and that may end."""

    @property
    def way(self) -> str:
        return way_through(self.server, is_wrapped=self.is_wrapped)

    def __str__(self) -> str:
        parts = [self.vendor, "pool" if self.pool else str(self.max_age)]
        parts += [] if self.is_wrapped else ["alone"]
        parts += [] if self.server == "uvicorn" else [self.server]
        parts += [] if self.wsgi_lane == "threads" else [self.wsgi_lane]
        return "-".join(parts)

    def alone(self) -> "Config":
        """With the Django middleware instead of the wrapper."""
        return replace(self, is_wrapped=False)

    def persistent(self) -> "Config":
        return replace(self, max_age=60)

    def with_one_thread(self) -> "Config":
        return replace(self, max_threads=1)


SQLITE = Config("sqlite")
POSTGRESQL = Config("postgresql")
EACH_WITH_ONE_THREAD = [
    each.with_one_thread()
    for each in (SQLITE, SQLITE.persistent(), POSTGRESQL, POSTGRESQL.persistent())
]


@dataclass(frozen=True)
class Ended:
    """What became of a callback."""

    state: str
    result: Any
    error: str | None


class Request:
    """One that has its response."""

    def __init__(self, site: "Site", ident: str, response: Any, target: str = "") -> None:
        self.target = target
        self._site = site
        self._ident = ident
        self.response = response
        self._ended: list[Ended] | None = None

    @property
    def states(self) -> list[str]:
        """Of its callbacks, as they are now."""
        states: list[str] = self._site.get(f"/states/{self._ident}?collect=1")["states"]
        return states

    def let(self, how: str) -> None:
        """Let the transaction end that has outlived it: "commit", "rollback" or "close"."""
        self._site.get(f"/let/{self._ident}/{how}")

    @property
    def ended(self) -> list[Ended]:
        """What became of its callbacks, when all have ended."""
        # No cached_property: before Python 3.12 it holds a lock for all requests.
        if self._ended is None:
            found = self._site.get(f"/ended/{self._ident}")
            self._ended = [Ended(**e) for e in found["callbacks"]]
        return self._ended

    @property
    def results(self) -> list[Any]:
        """The same if all have succeeded."""
        failed = [e for e in self.ended if e.state != "SUCCEEDED"]
        assert not failed, f"{failed}\n{self._site.report()}"
        return [e.result for e in self.ended]


class Site:
    """One process with one database."""

    _numbers = count(1)

    def __init__(self, config: Config, directory: Path, server: PostgreSQL | None) -> None:
        self.config = config
        refuse_in_process(f"the site {config}")
        number = next(self._numbers)
        self._log = directory / f"{number}-{config}.stderr"
        self._idents = count(1)
        self._server = server
        databases = {
            alias: self._new_database(directory / f"{number}-{alias}.sqlite3")
            for alias in ("default", "other")
            if alias == "default" or config.has_other
        }
        self._name = databases["default"]["NAME"]
        wanted = {**asdict(config), "databases": databases}
        with self._log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.django.dbsite"],
                cwd=ROOT,
                env={**os.environ, VARIABLE: json.dumps(wanted)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        try:
            self._port = self._read_port()
        except BaseException:
            self.stop()
            raise

    def _new_database(self, file: Path) -> dict[str, Any]:
        """An entry for Django's DATABASES."""
        database: dict[str, Any]
        if self._server is None:
            database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file)}
            database["OPTIONS"] = {"transaction_mode": "IMMEDIATE", "timeout": 20}
        else:
            database = self._server.settings(self._server.new_database())
            database["OPTIONS"] = {"pool": dict(self.config.pool)} if self.config.pool else {}
        database["CONN_MAX_AGE"] = self.config.max_age
        database["CONN_HEALTH_CHECKS"] = self.config.has_health_checks
        database["ATOMIC_REQUESTS"] = self.config.is_atomic
        return database

    def _read_port(self) -> int:
        output = self._process.stdout
        assert output is not None
        readable, _, _ = select.select([output], [], [], DEADLINE)
        line = output.readline() if readable else b""
        assert line, f"the site does not start\n{self.report()}"
        return int(line)

    def report(self) -> str:
        return f"--- stderr of {self.config}\n{self._log.read_text(errors='replace')[-8000:]}"

    # What it is asked.

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._port

    def get(self, target: str, status: int = 200) -> Any:
        client = http.client.HTTPConnection(*self.address, timeout=DEADLINE)
        try:
            client.request("GET", target)
            response = client.getresponse()
            body = response.read()
        finally:
            client.close()
        assert response.status == status, f"{response.status} {body[-2000:]!r}\n{self.report()}"
        return json.loads(body) if status == 200 else None

    def visit(self, path: str, status: int = 200) -> Request:
        """A request to ``path`` and the name of the request behind it."""
        request = self.future(path)
        request.response = self.get(request.target, status)
        return request

    def future(self, path: str) -> Request:
        """One that is still to be sent."""
        ident = f"r{next(self._idents)}"
        return Request(self, ident, None, f"{path}/{ident}")

    def start(self, kind: str, *do: str, orm: bool = False, concurrent: bool = False) -> Request:
        """One request to the ``sync`` or the ``async`` view, which registers these."""
        ident = f"r{next(self._idents)}"
        options = {"orm": "1"} if orm else {}
        options |= {"concurrent": "1"} if concurrent else {}
        query = urlencode([*(("do", name) for name in do), *options.items()])
        response = self.get(f"/{kind}/{ident}?{query}")
        return Request(self, ident, response)

    def run(self, kind: str, *do: str, orm: bool = False, concurrent: bool = False) -> Request:
        """The same, and wait for the end of its callbacks."""
        request = self.start(kind, *do, orm=orm, concurrent=concurrent)
        assert len(request.ended) == len(do)
        return request

    def state(self) -> Any:
        return self.get("/state")

    # Its database.

    def sessions(self) -> set[int]:
        """Connections that are open now, as the other side sees them: the pids
        of PostgreSQL, or the file descriptors of the SQLite database."""
        if self._server is not None:
            return {session.pid for session in self._server.sessions(self._name)}
        descriptors = Path(f"/proc/{self._process.pid}/fd")
        if not descriptors.exists():
            pytest.skip("this system does not tell which files a process has open")
        found = set()
        for link in descriptors.iterdir():
            try:
                if os.readlink(link) == self._name:
                    found.add(int(link.name))
            except FileNotFoundError:  # closed meanwhile
                pass
        return found

    def wait_for_sessions(self, is_right: Callable[[set[int]], bool]) -> set[int]:
        """Wait until these are right: a server notices a little later that one has been closed."""
        found: list[set[int]] = []

        def look() -> bool:
            found[:] = [self.sessions()]
            return is_right(found[0])

        wait_until(look, lambda: f"sessions of {self.config}: {found}\n{self.report()}")
        return found[0]

    def kill(self, session: int) -> None:
        assert self._server is not None
        self._server.terminate(session)

    # Its end.

    def terminate(self, sign: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(sign)

    def wait(self) -> int:
        """Until its process has ended; its exit code."""
        return self._process.wait(DEADLINE)

    def stop(self) -> None:
        """End the process, whatever it takes."""
        if self._process.poll() is None:
            self.terminate()
            try:
                self._process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Sites:
    """Sites by configuration, started when first asked for."""

    def __init__(self, directory: Path, start_postgresql: Callable[[], PostgreSQL]) -> None:
        self._directory = directory
        self._start_postgresql = start_postgresql
        self._postgresql: PostgreSQL | None = None
        self._running: dict[Config, Site] = {}

    def get(self, config: Config) -> Site:
        site = self._running.get(config)
        if site is None:
            server = self._server() if config.vendor == "postgresql" else None
            site = self._running[config] = Site(config, self._directory, server)
        return site

    def _server(self) -> PostgreSQL:
        if self._postgresql is None:
            self._postgresql = self._start_postgresql()
        return self._postgresql

    def stop(self) -> None:
        for site in self._running.values():
            site.terminate()
        for site in self._running.values():
            site.stop()


def with_sites(*configs: Config) -> pytest.MarkDecorator:
    """Run the test with each of these; marked if it needs PostgreSQL."""
    params = [
        pytest.param(
            config,
            id=str(config),
            marks=[pytest.mark.postgresql] if config.vendor == "postgresql" else [],
        )
        for config in configs
    ]
    return pytest.mark.parametrize("site", params, indirect=True)
