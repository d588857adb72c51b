"""``drain_on_sigterm``: servers that SIGTERM kills wait for callbacks first."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..processes import refuse_in_process
from ..servers import gates
from ..servers.client import DEADLINE, Client
from ..servers.events import VARIABLE
from ..servers.harness import ROOT, wait_until
from ..servers.launch import HOST, free_port
from .drained import SERVERS


class Served:
    """One process that serves ``drained.app``."""

    def __init__(self, directory: Path, server: str, drain: str | None, **env: str) -> None:
        refuse_in_process(server)
        self._events = directory / "events"
        self._events.touch()
        self._log = directory / "log"
        self.port = free_port()
        if drain is not None:
            env["DRAIN"] = drain
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.wsgi.drained", server, str(self.port)],
                cwd=ROOT,
                env={**os.environ, VARIABLE: str(self._events), **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._is_ready, self.log)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log()
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def log(self) -> str:
        return self._log.read_text()

    def count(self, event: str) -> int:
        return self._events.read_text().count(f'"event": "{event}"')

    def wait(self, event: str, number: int) -> None:
        wait_until(lambda: self.count(event) >= number, lambda: f"{event}: {self.log()}")

    def ask(self, target: str) -> None:
        client = Client(self.port, self.log)
        try:
            client.send(target, headers=("Connection: close",))
            assert client.head()[0] == 200
        finally:
            client.close()

    def release(self, ident: str) -> None:
        gates.path_of(str(self._events), ident).touch()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def code(self) -> int:
        return self.process.wait(DEADLINE)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path, server_processes: None) -> Iterator[Serve]:
    served: list[Served] = []

    def serve(server: str = "waitress", drain: str | None = "yes", **env: str) -> Served:
        served.append(Served(tmp_path, server, drain, **env))
        return served[-1]

    yield serve
    for each in served:
        each.stop()


@pytest.mark.parametrize("server", SERVERS)
def test_it_waits_for_callbacks(serve: Serve, server: str) -> None:
    """And then the process ends as it does without it."""
    served = serve(server)
    served.ask("/r1")
    served.wait("start", 2)
    served.terminate()
    wait_until(lambda: "shutdown: waiting" in served.log(), served.log)
    assert served.process.poll() is None
    assert served.count("end") == 0
    served.release("r1")
    assert served.code() == -signal.SIGTERM
    assert served.count("end") == 2


@pytest.mark.parametrize("server", SERVERS)
def test_without_it_they_are_lost(serve: Serve, server: str) -> None:
    """What the table of the README says of these servers."""
    served = serve(server, drain=None)
    served.ask("/r1")
    served.wait("start", 2)
    served.terminate()
    assert served.code() == -signal.SIGTERM
    served.release("r1")
    assert served.count("end") == 0
    assert "dropped" not in served.log()


def test_the_server_goes_on_meanwhile(serve: Serve) -> None:
    served = serve()
    served.ask("/r1")
    served.wait("start", 2)
    served.terminate()
    wait_until(lambda: "shutdown: waiting" in served.log(), served.log)
    served.ask("/r2")
    served.wait("start", 4)
    served.release("r1")
    served.release("r2")
    assert served.code() == -signal.SIGTERM
    assert served.count("end") == 4


def test_a_second_one_ends_it_at_once(serve: Serve) -> None:
    """A second later: before, it is taken for the same."""
    served = serve()
    served.ask("/r1")
    served.wait("start", 2)
    served.terminate()
    wait_until(lambda: "shutdown: waiting" in served.log(), served.log)

    def has_ended() -> bool:
        served.terminate()
        return served.process.poll() is not None

    wait_until(has_ended, served.log)
    assert served.code() == -signal.SIGTERM
    assert served.count("end") == 0


def test_one_that_comes_twice_is_one(serve: Serve) -> None:
    """Who signals a process and its group, as coreutils' timeout does."""
    served = serve()
    served.ask("/r1")
    served.wait("start", 2)
    served.terminate()
    wait_until(lambda: "shutdown: waiting" in served.log(), served.log)
    served.terminate()
    served.ask("/r2")
    served.release("r1")
    served.release("r2")
    assert served.code() == -signal.SIGTERM
    assert served.count("end") == 4


def test_what_does_not_end_in_time_is_named(serve: Serve) -> None:
    served = serve(WAIT_TIMEOUT="0.1")
    served.ask("/forever/r1")
    served.wait("start", 1)
    served.release("r1")
    served.terminate()
    assert served.code() == -signal.SIGTERM
    log = served.log()
    assert "__main__.block of GET /forever/r1 (200) was dropped" in log
    assert "threading.Event.wait of GET /forever/r1 (200) was dropped" in log
    assert "2 callback(s) were lost" in log


def test_it_leaves_somebody_elses_handler_alone(serve: Serve) -> None:
    """Who handles SIGTERM ends the interpreter, and there callbacks are waited for."""
    served = serve(drain="handled")
    assert served.count("drains") == 1
    served.ask("/r1")
    served.wait("start", 2)
    served.terminate()
    served.release("r1")
    assert served.code() in (0, 3)  # waitress swallows the SystemExit
    assert served.count("end") == 2


def test_it_says_that_only_the_main_thread_can(serve: Serve) -> None:
    served = serve(drain="thread")
    assert "drain_on_sigterm() was called in thread" in served.log()
