"""Runs servers as subprocesses, and reads the events of their apps."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from ..processes import refuse_in_process
from . import gates
from .client import DEADLINE, Client, Response
from .events import VARIABLE, EventLog
from .launch import Config, Launch

ROOT = Path(__file__).parents[2]
# Taken once: pytest changes it while servers are started in threads.
_ENVIRONMENT = dict(os.environ)
Event = dict[str, Any]


def wait_until(condition: Callable[[], object], problem: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(problem())
        time.sleep(0.005)


class Server:
    """One server, with all its processes, and the events of its app."""

    _numbers = count(1)

    def __init__(self, config: Config, directory: Path) -> None:
        refuse_in_process(f"the server {config}")
        self.config = config
        name = f"{next(self._numbers)}-{re.sub('[^a-z0-9.-]', '-', str(config))[:100]}"
        self._events_path = directory / f"{name}.events"
        self._stderr_path = directory / f"{name}.stderr"
        self._events: list[Event] = []
        self._unread = b""
        self._idents = count(1)
        self.port = 0
        self._launch = Launch(config)
        self._log = EventLog(str(self._events_path))
        self._reader = self._events_path.open("rb")
        with self._stderr_path.open("wb") as stderr:
            self._process = subprocess.Popen(
                self._launch.arguments,
                cwd=ROOT,
                env={
                    **_ENVIRONMENT,
                    VARIABLE: str(self._events_path),
                    "PYTHONDEVMODE": "",
                    **dict(config.env),
                },
                stdin=subprocess.DEVNULL,
                start_new_session=True,
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
        self.port = self._launch.port(self.stderr()) or 0
        return self.port != 0

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

    def connect(self, *, receive_buffer: int | None = None) -> Client:
        return Client(self.port, self.report, receive_buffer)

    def get(self, target: str, **more: Any) -> Response:
        """One request on a connection of its own."""
        client = self.connect()
        try:
            return client.get(target, **more)
        finally:
            client.close()

    def release(self, ident: str) -> None:
        """Open the gate of this request's callbacks."""
        gates.path_of(str(self._events_path), ident).touch()

    # Its end.

    @property
    def pid(self) -> int:
        """Of the process that was started; those of its workers stand in the events."""
        return self._process.pid

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def terminate(self) -> None:
        self.signal(signal.SIGTERM)

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
                os.killpg(self._process.pid, signal.SIGKILL)  # and its workers
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


def finish(server: Server, ident: str, number: int = 1) -> list[str]:
    """Open the gate; the order of events up to the end of the callbacks."""
    server.wait(ident, "start")
    assert not server.events(ident, "end")
    server.note("released", ident)
    server.release(ident)
    server.wait(ident, "end", number)
    return server.order(ident)


_BEGINNINGS = {"start", "outcome", "every"}


def premature(events: list[Event]) -> list[str]:
    """The requests of which a callback began before the server's ``send`` of
    the last message had returned or, where the response is said to be
    incomplete, before the app had returned, failed or lost its client.

    A ``send`` that raised is the end too: Django sends nothing more then, and
    joins a thread before it raises that error to the server."""
    sent: set[str] = set()
    over: set[str] = set()
    # One of the callbacks of each request tells the outcome.
    complete = {e["id"]: e["completion"] == "SENT" for e in events if "completion" in e}
    wrong = []
    for event in events:
        ident = event["id"]
        if event["event"] == "sent":
            sent.add(ident)
        elif event["event"] in ("send failed", "returned", "raised", "gone"):
            over.add(ident)
        elif event["event"] in _BEGINNINGS and ident not in (sent if complete[ident] else over):
            wrong.append(ident)
    return wrong


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
