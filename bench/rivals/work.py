"""The work that is done after the response, by every way the same, and its ledger.

The ledger is a file, one line per event, each appended by one ``write`` with
O_APPEND: what a callback has done is seen by its own effect, whatever process
it ran in, and not by what a library says of it.
"""

import asyncio
import functools
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["none", "async", "sync"]
Event = Literal["begun", "registered", "entered", "done"]
"""Of the view: it has begun, and has registered its work. Of the work itself."""

LEDGER = "RIVALS_LEDGER"
"""The environment variable that names the file."""
WAY = "RIVALS_WAY"
"""The one that names the way under test."""
BODY = b"x" * 2000
CHUNK = b"x" * 16_384
CHUNKS = 60
CHUNK_PAUSE = 0.025
VIEW_SECONDS = 0.4
"""How long a view goes on after it has registered its work, where the client is to leave it."""


class ViewError(Exception):
    """What the view raises, in the column where it does."""


class WorkError(Exception):
    """What the work raises that is to fail."""


@functools.cache
def _descriptor() -> int:
    return os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(event: Event, token: str) -> None:
    os.write(_descriptor(), f"{event} {token}\n".encode())


async def async_work(token: str, seconds: float) -> None:
    note("entered", token)
    await asyncio.sleep(seconds)
    note("done", token)


def sync_work(token: str, seconds: float) -> None:
    note("entered", token)
    time.sleep(seconds)
    note("done", token)


# A traceback in a log names them.


async def async_work_that_fails(token: str, seconds: float) -> None:
    raise WorkError("on purpose")


def sync_work_that_fails(token: str, seconds: float) -> None:
    raise WorkError("on purpose")


FAILING = ("in async_work_that_fails", "in sync_work_that_fails")
"""How a line of a traceback names them,"""
FAILING_NAME = "_that_fails"
"""and any other line; the tasks made of them too."""


@dataclass(frozen=True, slots=True)
class Work:
    """One callback: a function and its arguments."""

    kind: Kind
    token: str
    seconds: float
    fails: bool = False

    @property
    def function(self) -> Callable[[str, float], Any]:
        if self.kind == "async":
            return async_work_that_fails if self.fails else async_work
        return sync_work_that_fails if self.fails else sync_work

    @property
    def async_function(self) -> Callable[[str, float], Awaitable[None]]:
        return async_work_that_fails if self.fails else async_work

    @property
    def arguments(self) -> tuple[str, float]:
        return self.token, self.seconds


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for, by its path: ``/what/kind/milliseconds/token``.

    ``what``: ``plain`` (nothing to do), ``timed`` (work, whose view writes no
    ledger), ``work``, ``stream``, ``slow``, ``raise``, ``pair`` (two, of which the first fails).
    """

    what: str
    kind: Kind
    milliseconds: int
    token: str

    @property
    def path(self) -> str:
        return f"/{self.what}/{self.kind}/{self.milliseconds}/{self.token}"

    def works(self) -> list[Work]:
        if self.what == "plain" or self.kind == "none":
            return []
        work = Work(self.kind, self.token, self.milliseconds / 1000)
        if self.what == "pair":
            return [Work(self.kind, self.token, 0, fails=True), work]
        return [work]

    def note(self, event: Event) -> None:
        if self.what not in ("plain", "timed"):
            note(event, self.token)

    async def rest_of_view(self) -> None:
        """What the view still does once it has registered its work."""
        self.note("registered")
        if self.what == "slow":
            await asyncio.sleep(VIEW_SECONDS)
        if self.what == "raise":
            raise ViewError("on purpose")

    def rest_of_sync_view(self) -> None:
        self.note("registered")
        if self.what == "slow":
            time.sleep(VIEW_SECONDS)
        if self.what == "raise":
            raise ViewError("on purpose")


class Ledger:
    """The judge's side of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def tokens(self, event: Event) -> set[str]:
        found: dict[str, set[str]] = defaultdict(set)
        for line in self._path.read_text().splitlines():
            name, _, token = line.partition(" ")
            found[name].add(token)
        return found[event]

    def count(self, event: Event, tokens: Sequence[str]) -> int:
        return len(self.tokens(event) & set(tokens))

    def wait(
        self,
        event: Event,
        tokens: Sequence[str],
        *,
        quiet: float,
        enough: int | None = None,
        limit: float = 60,
        stopped: Callable[[], bool] = lambda: False,
    ) -> int:
        """How many of them it came to, once it has to ``enough`` (all), or to no more for
        ``quiet`` seconds."""
        enough = len(tokens) if enough is None else enough
        until = time.monotonic() + limit
        last, count = time.monotonic(), 0
        while True:
            found = self.count(event, tokens)
            now = time.monotonic()
            if found > count:
                last, count = now, found
            if count >= enough or now - last > quiet or now > until or stopped():
                return count
            time.sleep(0.003)
