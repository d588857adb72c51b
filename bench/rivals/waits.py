"""How much later does the client have its response, when work is to be done after it?

Pairs of requests without and with work, A B B A, each way against itself.
"""

import itertools
import threading
import time
from dataclasses import dataclass, field
from statistics import median

from ..client import Connection, request
from ..stats import Estimate, differences
from .losses import Stopped
from .site import Site, site
from .ways import Way
from .work import Asked, Kind

FIGURES = ("complete response", "next request", "EOF after close")
SECONDS = 0.2
"""How long the work takes."""
REST = 0.002
"""Seconds before a new connection: what the request before has to do begins then."""
BLOCK_SECONDS = 0.04
"""A block takes at least so long, so that about 20 pieces of work are under way: fewer than
the default bounds of any way, but that of asyncio's default executor."""
DRAIN = 10.0
"""Seconds that it has at the end to be done,"""
DRAIN_QUIET = 1.5
"""as long as some of it is."""


@dataclass(slots=True)
class Pairs:
    """Seconds; items of equal index were taken together."""

    without: list[float] = field(default_factory=list)
    with_: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Waits:
    """What was measured of one way with one kind of work."""

    way: Way
    kind: Kind
    samples: dict[str, Pairs]
    asked: int
    done: int

    @property
    def pairs(self) -> int:
        return len(self.samples[FIGURES[0]].without)

    def baseline(self, figure: str) -> float:
        return median(self.samples[figure].without)

    def added(self, figure: str, seed: int) -> Estimate:
        pairs = self.samples[figure]
        return differences(pairs.with_, pairs.without, seed)


class Meter:
    """Measures one way with one kind of work."""

    def __init__(self, way: Way, kind: Kind, stop: threading.Event) -> None:
        self._way = way
        self._kind = kind
        self._stop = stop
        self._tokens: list[str] = []
        self._numbers = itertools.count()
        self._is_turned = False

    def measure(self, pairs: int, seconds: float, warm_up: float) -> Waits:
        """``seconds``: end after so long at the latest; there are four pairs at least."""
        with site(self._way) as running:
            if self._way.workers:
                self._await_workers(running)
            samples = {figure: Pairs() for figure in FIGURES}
            with Connection(running.port) as kept:
                until = time.monotonic() + warm_up
                while time.monotonic() < until:
                    self._block(running, kept, {figure: Pairs() for figure in FIGURES})
                until = time.monotonic() + seconds
                for number in range((pairs + 1) // 2):
                    if number >= 2 and time.monotonic() > until:
                        break
                    self._block(running, kept, samples)
            # Where none of it was ever done, nothing was measured.
            done = running.ledger.wait(
                "done",
                self._tokens,
                quiet=DRAIN_QUIET,
                limit=DRAIN,
                stopped=self._stop.is_set,
            )
            running.check()
        return Waits(self._way, self._kind, samples, len(self._tokens), done)

    def _await_workers(self, running: Site) -> None:
        path = self._path(is_with=True)
        with Connection(running.port) as connection:
            connection.complete(request(path))
        if not running.ledger.wait("done", self._tokens, quiet=20, stopped=self._stop.is_set):
            raise RuntimeError(f"{self._way.name}: its workers do nothing")

    def _block(self, running: Site, kept: Connection, samples: dict[str, Pairs]) -> None:
        """Two pairs, A B B A and then B A A B, so that neither side gains by its turn."""
        if self._stop.is_set():
            raise Stopped
        began = time.monotonic()
        kept.complete(request(self._path(is_with=False)))  # wakes both sides from the rest
        self._is_turned = not self._is_turned
        for is_with in (
            (True, False, False, True) if self._is_turned else (False, True, True, False)
        ):
            complete = kept.complete(request(self._path(is_with)))
            following = kept.complete(request(self._path(is_with=False)))
            time.sleep(REST)
            with Connection(running.port) as closing:
                eof = closing.eof(request(self._path(is_with), close=True))
            for figure, value in zip(FIGURES, (complete, following, eof), strict=True):
                pairs = samples[figure]
                (pairs.with_ if is_with else pairs.without).append(value)
        time.sleep(max(0.0, began + BLOCK_SECONDS - time.monotonic()))

    def _path(self, is_with: bool) -> str:
        token = f"timed-{next(self._numbers)}"
        if is_with and self._kind != "none":
            self._tokens.append(token)
        milliseconds = round(SECONDS * 1000)
        what = "timed" if is_with else "plain"
        return Asked(what, self._kind, milliseconds, token).path
