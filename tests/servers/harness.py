"""Starts uvicorn as a subprocess, speaks HTTP/1.1 to it, and reads the events of its app."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from .events import VARIABLE, EventLog

ROOT = Path(__file__).parents[2]
DEADLINE = 20.0
"""Seconds after which a test gives up; nothing here takes a tenth of it."""

DJANGO = "tests.servers.site.asgi:application"
BARE = "tests.servers.bare:application"
SPEAKING = "tests.servers.bare:speaking"

Event = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """What a server is started with; tests with equal ones share a server."""

    app: str = DJANGO
    http: str = "httptools"
    loop: str = "uvloop"
    lifespan: str = "auto"

    def __str__(self) -> str:
        name = self.app.removeprefix("tests.servers.").removesuffix(":application")
        return f"{name}-{self.http}-{self.loop}-{self.lifespan}"


def product(app: str = DJANGO, lifespan: str = "auto") -> list[Config]:
    """Every HTTP implementation on every event loop."""
    return [
        Config(app, http, loop, lifespan)
        for http in ("httptools", "h11")
        for loop in ("asyncio", "uvloop")
    ]


def pair(app: str = DJANGO, lifespan: str = "auto") -> list[Config]:
    """Both HTTP implementations and both event loops, in two servers."""
    return [
        Config(app, "httptools", "uvloop", lifespan),
        Config(app, "h11", "asyncio", lifespan),
    ]


def wait_until(condition: Callable[[], object], problem: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(problem())
        time.sleep(0.005)


class Server:
    """One uvicorn process and the events of its app."""

    _numbers = count(1)

    def __init__(self, config: Config, directory: Path) -> None:
        self.config = config
        name = f"{next(self._numbers)}-{str(config).replace(':', '-')}"
        self._events_path = directory / f"{name}.events"
        self._stderr_path = directory / f"{name}.stderr"
        self._events: list[Event] = []
        self._unread = b""
        self._log = EventLog(str(self._events_path))
        self._reader = self._events_path.open("rb")
        self._idents = count(1)
        self.port = 0
        self._release = "length" if config.app in (BARE, SPEAKING) else "release"
        with self._stderr_path.open("wb") as stderr:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "uvicorn", config.app),
                    *("--host", "127.0.0.1", "--port", "0"),
                    *("--http", config.http, "--loop", config.loop),
                    *("--lifespan", config.lifespan),
                    *("--no-access-log", "--no-use-colors"),
                ],
                cwd=ROOT,
                env={**os.environ, VARIABLE: str(self._events_path), "PYTHONDEVMODE": ""},
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
            )
        try:
            wait_until(self._is_ready, lambda: f"not ready in time\n{self.report()}")
        except BaseException:
            self.stop()
            raise

    def _is_ready(self) -> bool:
        code = self._process.poll()
        if code is not None:
            raise AssertionError(f"the server ended with {code}\n{self.report()}")
        match = re.search(r"running on http://127\.0\.0\.1:(\d+)", self.stderr())
        if match is None:
            return False
        self.port = int(match[1])
        return True

    # What it tells.

    def stderr(self) -> str:
        return self._stderr_path.read_text(errors="replace")

    def report(self) -> str:
        last = "\n".join(map(str, self.events()[-40:]))
        return f"--- stderr of {self.config}\n{self.stderr()[-6000:]}\n--- last events\n{last}"

    def events(self, ident: str | None = None, event: str | None = None) -> list[Event]:
        self._unread += self._reader.read()
        *lines, self._unread = self._unread.split(b"\n")
        self._events += map(json.loads, lines)
        return [
            e
            for e in self._events
            if (ident is None or e["id"] == ident) and (event is None or e["event"] == event)
        ]

    def order(self, ident: str) -> list[str]:
        """The names of the events of one request, in order."""
        return [e["event"] for e in self.events(ident)]

    def wait(self, ident: str, event: str, number: int = 1) -> list[Event]:
        """Wait until there are so many of these events; exactly as many it must be."""
        wait_until(
            lambda: len(self.events(ident, event)) >= number,
            lambda: (
                f"{len(self.events(ident, event))} of {number} events {event!r} of {ident}:"
                f" {self.order(ident)[-20:]}\n{self.report()}"
            ),
        )
        found = self.events(ident, event)
        assert len(found) == number, f"{len(found)} events {event!r} of {ident}\n{self.report()}"
        return found

    def outcome(self, ident: str) -> Event:
        (event,) = self.wait(ident, "outcome")
        return event

    def note(self, event: str, ident: str) -> None:
        """An event of the test itself, in line with those of the app."""
        self._log.write(event, ident)

    def new_ident(self) -> str:
        return f"r{next(self._idents)}"

    # What it is asked.

    def connect(self) -> "Client":
        return Client(self)

    def get(self, target: str, **more: Any) -> "Response":
        """One request on a connection of its own."""
        client = self.connect()
        try:
            return client.get(target, **more)
        finally:
            client.close()

    def release(self, ident: str) -> None:
        """Open the gate of this request's callbacks."""
        self.get(f"/{self._release}/{self.new_ident()}?gate={ident}")

    # Its end.

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def wait_for_exit(self) -> int:
        try:
            return self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server did not end in time\n{self.report()}") from None

    def stop(self) -> None:
        """End the process, whatever it takes, and close the files."""
        if self._process.poll() is None:
            self.terminate()
            try:
                self._process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()
        self._reader.close()

    def check(self) -> None:
        """What holds for all requests of this server, whoever made them."""
        wrong = premature(self.events())
        assert not wrong, f"callbacks that began too early: {wrong}\n{self.report()}"
        stderr = self.stderr()
        for sign in ("was never awaited", "was destroyed but", "exception was never retrieved"):
            assert sign not in stderr, f"{sign}\n{self.report()}"


_BEGINNINGS = {"start", "outcome", "every"}


def premature(events: list[Event]) -> list[str]:
    """The requests of which a callback began before the server's ``send`` of
    the last message had returned or, where the response is said to be
    incomplete, before the app had returned, failed or lost its client."""
    sent: set[str] = set()
    over: set[str] = set()
    complete: dict[str, bool] = {}
    wrong = []
    for event in events:
        ident = event["id"]
        if event["event"] == "sent":
            sent.add(ident)
        elif event["event"] in ("returned", "raised", "gone"):
            over.add(ident)
        elif event["event"] in _BEGINNINGS:
            # The first callback of each request tells the outcome.
            if "completion" in event:
                complete[ident] = event["completion"] == "SENT"
            if ident not in (sent if complete[ident] else over):
                wrong.append(ident)
    return wrong


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A connection. Reads exactly what HTTP/1.1 says is there, so that what is
    not there in time fails the test."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._socket = socket.create_connection(("127.0.0.1", server.port), DEADLINE)
        self._unread = b""

    def send(
        self, target: str, *, method: str = "GET", headers: tuple[str, ...] = (), times: int = 1
    ) -> None:
        lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
        self._socket.sendall("\r\n".join(lines).encode() * times)

    def send_all(self, *targets: str) -> None:
        """Several requests in one segment (pipelining)."""
        request = "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        self._socket.sendall("".join(map(request.format, targets)).encode())

    def get(self, target: str, *, method: str = "GET", headers: tuple[str, ...] = ()) -> Response:
        self.send(target, method=method, headers=headers)
        return self.response(method)

    def response(self, method: str = "GET") -> Response:
        status, headers = self.head()
        if method == "HEAD" or status in (204, 304):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = b"".join(iter(self.chunk, b""))
        else:
            body = self._exactly(int(headers["content-length"]))
        return Response(status, headers, body)

    def head(self) -> tuple[int, dict[str, str]]:
        first, *lines = self._until(b"\r\n\r\n").decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]), headers

    def chunk(self) -> bytes:
        size = int(self._until(b"\r\n"), 16)
        data = self._exactly(size)
        assert self._exactly(2) == b"\r\n"
        return data

    def expect_eof(self) -> None:
        assert not self._unread, self._unread
        assert self._receive() == b""

    def close(self) -> None:
        """FIN, if all has been read."""
        self._socket.close()

    def reset(self) -> None:
        """RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._unread:
            self._more()
        found, _, self._unread = self._unread.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._more()
        found, self._unread = self._unread[:size], self._unread[size:]
        return found

    def _more(self) -> None:
        data = self._receive()
        assert data, f"the connection ended early, after {self._unread!r}\n{self._server.report()}"
        self._unread += data

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except TimeoutError:
            raise AssertionError(
                f"nothing more in time, after {self._unread!r}\n{self._server.report()}"
            ) from None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Servers:
    """Servers by configuration, started when first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[Config, Server] = {}

    def get(self, config: Config) -> Server:
        server = self._running.get(config)
        if server is None:
            server = self._running[config] = self.start(config)
        return server

    def start(self, config: Config) -> Server:
        """One that nobody else gets."""
        return Server(config, self._directory)

    def stop(self) -> None:
        for server in self._running.values():
            server.terminate()
        for server in self._running.values():
            server.stop()
