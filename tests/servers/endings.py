"""Servers that end or recycle a worker while callbacks run, several at a time.

Most of it is waiting, so the servers of one module run next to each other:
``Endings`` starts all that the selected tests want, and a test takes its own.
"""

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from inspect import signature
from pathlib import Path

import pytest

from async_after import Runner

from .client import DEADLINE
from .events import ident_of
from .harness import Event, Server, wait_until
from .launch import ALONE, DJANGO, Config
from .matrix import ROWS, Row

MAX_THREADS: int = signature(Runner).parameters["max_threads"].default
LIMIT: int = signature(Runner).parameters["limit"].default

_FUNCTIONS = {"async": "suspend", "sync": "block"}


@dataclass(frozen=True)
class Load:
    """So many requests to a view, each of which registers one callback.

    A gated callback takes ``delay`` seconds and then goes on until the server
    was told to end, so that it certainly runs at that moment.
    """

    kind: str
    count: int
    delay: float = 2.0
    gated: bool = True

    def paths(self) -> list[str]:
        return [f"/async/{self.kind}{number}" for number in range(self.count)]

    def send(self, server: Server) -> None:
        """The client leaves as soon as it has the response."""
        gated = "&gated" if self.gated else ""
        for path in self.paths():
            response = server.get(f"{path}?kind={self.kind}&delay={self.delay}{gated}")
            assert response.status == 200, server.report()

    @property
    def at_once(self) -> int:
        """How many of its callbacks a runner runs at the same time by default."""
        return min(self.count, LIMIT if self.kind == "async" else MAX_THREADS)


def both(count: int, *, delay: float = 2.0, gated: bool = True) -> tuple[Load, ...]:
    return tuple(Load(kind, count, delay, gated) for kind in _FUNCTIONS)


def sigterm(server: Server) -> None:
    server.terminate()


def ctrl_c(server: Server) -> None:
    """SIGINT to all its processes, as a terminal does it.

    granian's main process then sends SIGTERM too, and of 144 workers that got
    both, 2 hung: the main thread in ``WorkerSignal.set``, which waits for a
    lock of granian's while it holds the GIL. 240 with one signal did not.
    """
    if server.config.server == "granian":
        server.signal(signal.SIGINT)
    else:
        os.killpg(server.pid, signal.SIGINT)


def nothing(server: Server) -> None:
    """The server ends later: see ``Scenario.ends``."""


def wait_for_log(server: Server, text: str, number: int = 1) -> None:
    wait_until(
        lambda: server.stderr().count(text) >= number,
        lambda: f"{text!r} is not in the log {number} times\n{server.report()}",
    )


@dataclass(frozen=True)
class Scenario:
    """What one server goes through."""

    config: Config
    loads: tuple[Load, ...]
    end: Callable[[Server], None] = sigterm
    """When the callbacks run."""
    ends: bool = True
    """Whether the server exits by that; else it is ended when they are through."""

    def __str__(self) -> str:
        return f"{self.config}-{self.end.__name__}"

    def play(self, directory: Path) -> "Ended":
        server = Server(self.config, directory)
        try:
            for load in self.loads:
                load.send(server)
            for load in self.loads:
                self._wait_until_running(server, load)
            self._wait_until_ended(server)
            server.note("ending", "test")
            began = time.monotonic()
            self.end(server)
            for path in self.paths():
                server.release(ident_of(path))
            if not self.ends:
                self._wait_for_callbacks(server)
                server.terminate()
            code = server.wait_for_exit()
            seconds = time.monotonic() - began
            return Ended(
                self,
                server.pid,
                code,
                seconds,
                server.events(),
                server.stderr(),
                server.report(),
            )
        finally:
            server.stop()

    def paths(self) -> list[str]:
        return [path for load in self.loads for path in load.paths()]

    @property
    def at_once(self) -> int:
        return sum(load.at_once for load in self.loads)

    def _wait_until_running(self, server: Server, load: Load) -> None:
        idents = {ident_of(path) for path in load.paths()}
        wait_until(
            lambda: len({e["id"] for e in server.events(None, "start")} & idents) >= load.at_once,
            lambda: f"{load.at_once} {load.kind} callbacks do not run\n{server.report()}",
        )

    def _wait_until_ended(self, server: Server) -> None:
        """A client has its response before the app has returned, and granian
        ends without running what is left of that; those that can say so are asked."""
        config = self.config
        if config.app in (DJANGO, ALONE) and config.workers == 1 and not config.args:
            wait_until(
                lambda: json.loads(server.get("/statistics/x").body)["open_exchanges"] == 0,
                lambda: f"an exchange does not end\n{server.report()}",
            )

    def _wait_for_callbacks(self, server: Server) -> None:
        paths = self.paths()

        def unaccounted() -> set[str]:
            ended = {event["id"] for event in server.events(None, "end")}
            dropped = {path for _, path in _DROPPED.findall(server.stderr())}
            return {path for path in paths if path not in dropped and ident_of(path) not in ended}

        wait_until(
            lambda: not unaccounted(),
            lambda: f"{len(unaccounted())} of {len(paths)} have not ended\n{server.report()}",
        )


@dataclass(frozen=True, repr=False)
class Ended:
    """What is left of a server."""

    scenario: Scenario
    pid: int
    code: int
    seconds: float
    """From the signal to the exit."""
    events: list[Event]
    stderr: str
    report: str

    def __repr__(self) -> str:
        return (
            f"{self.scenario}: {self.running} callbacks ran, {len(self.lost)} were lost,"
            f" {len(self.unnamed)} of them without a word; exit {self.code} after"
            f" {self.seconds:.1f} s\n{self.report}"
        )

    @property
    def running(self) -> int:
        """How many callbacks ran when the end began."""
        number = 0
        for event in self.events:
            if event["event"] == "ending":
                break
            number += {"start": 1, "end": -1}.get(event["event"], 0)
        return number

    @property
    def ends(self) -> Counter[str]:
        """How many callbacks of each request have run to their end."""
        return Counter(e["id"] for e in self.events if e["event"] == "end")

    @property
    def lost(self) -> list[str]:
        """The paths of the requests whose callback has not."""
        ends = self.ends
        return [path for path in self.scenario.paths() if not ends[ident_of(path)]]

    @property
    def unnamed(self) -> list[str]:
        """Those lost without a line in the log that names callback and exchange."""
        named = set(_NAMED.findall(self.stderr))
        lost = set(self.lost)
        return [
            path
            for load in self.scenario.loads
            for path in load.paths()
            if path in lost and (_FUNCTIONS[load.kind], path) not in named
        ]

    @property
    def pids(self) -> set[int]:
        """The processes in which callbacks ran."""
        return {event["pid"] for event in self.events if event["event"] == "start"}

    def expect_all(self) -> None:
        """Each callback has run once and to its end."""
        assert not self.lost, self
        twice = {ident: number for ident, number in self.ends.items() if number > 1}
        assert not twice, (twice, self)
        self._expect_clean_log()

    def expect_named(self) -> None:
        """Some have not run to their end, and each of them is named in the log."""
        assert self.lost, self
        assert not self.unnamed, self
        self._expect_clean_log()

    def _expect_clean_log(self) -> None:
        for sign in ("was never awaited", "was destroyed but", "exception was never retrieved"):
            assert sign not in self.stderr, (sign, self)
        # Nobody had to end it by force.
        assert self.code != -signal.SIGKILL, self
        for sign in ("SIGKILL", "WORKER TIMEOUT"):
            assert sign not in self.stderr, (sign, self)


_NAMED = re.compile(r"\bwork\.(suspend|block) of GET (/\w+/\w+) ")
_DROPPED = re.compile(_NAMED.pattern + r"\(\d+\) was dropped\b")


class Endings:
    """Plays scenarios, a few at a time."""

    AT_ONCE = 8

    def __init__(self, directory: Path, scenarios: Iterable[Scenario]) -> None:
        self._pool = ThreadPoolExecutor(self.AT_ONCE)
        self._ended: dict[Scenario, Future[Ended]] = {
            scenario: self._pool.submit(scenario.play, directory) for scenario in scenarios
        }

    def __getitem__(self, scenario: Scenario) -> Ended:
        # Each step of a scenario has a deadline; this one is for a queue of them.
        return self._ended[scenario].result(5 * DEADLINE)

    def __enter__(self) -> "Endings":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def wanted(items: Iterable[object], module: object) -> Iterator[Scenario]:
    """The scenarios of the selected tests of this module, each once."""
    seen = set()
    for item in items:
        if not isinstance(item, pytest.Function) or item.module is not module:
            continue
        if item.get_closest_marker("skip") is not None:  # its server may be missing
            continue
        scenario = item.callspec.params.get("scenario") if hasattr(item, "callspec") else None
        if isinstance(scenario, Scenario) and scenario not in seen:
            seen.add(scenario)
            yield scenario


def each(
    make: Callable[[Row], Scenario], wanted: Callable[[Row], bool] = lambda row: True
) -> pytest.MarkDecorator:
    """Each of these rows of the matrix, with its scenario."""
    return pytest.mark.parametrize(
        ("row", "scenario"),
        [pytest.param(row, make(row), id=str(row)) for row in ROWS if wanted(row)],
    )
