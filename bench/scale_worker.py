"""Measurements of ``scale``: ``python -m bench.scale_worker SHAPE KIND SIZE ...``.

Tells in JSON the CPU nanoseconds per callback of each chunk, of all threads, and the bytes
that a callback takes. A large size has a process of its own: what that grows by are callbacks.
"""

import asyncio
import gc
import itertools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from time import process_time_ns, thread_time_ns
from typing import Any

import django
from django.conf import settings

from async_after import after_response, get_runner

from .exchanges import complete_exchange, current_exchange

SHAPES = ("one exchange", "waiting", "exchanges")
CHUNKS = 10
"""Parts of a large run, each of which is a sample."""
LARGE = 1000
"""Callbacks from which on a run has chunks. Smaller ones are repeated instead."""
WEIGHED = 10_000
"""Callbacks from which on they are weighed: fewer are lost among the pages of the process."""
REPEATED = 3_000
"""Callbacks of small runs together."""
AT_ONCE = 100
"""Exchanges that are under way in ``exchanges``."""
DEADLINE = 500.0
"""Seconds for the callbacks of a run to end."""


@dataclass(slots=True)
class Found:
    """A figure per chunk, or per repetition."""

    register: list[float] = field(default_factory=list)
    run: list[float] = field(default_factory=list)
    collecting: float = 0.0
    """What Python's garbage collector has of both."""
    bytes: float | None = None
    """While they wait, a callback with its exchange, where each has one; in ``exchanges``
    what is left of them."""

    @property
    def per_callback(self) -> float:
        """Nanoseconds from the registration to the end."""
        return sum(fmean(samples) for samples in (self.register, self.run) if samples)


class Work:
    """The callback, which counts how many have run."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._has_run = asyncio.Event()
        self._done = 0
        self._awaited = 0
        self._next = 0
        self._step = 0
        self.marks: list[int] = []

    def expect(self, size: int) -> None:
        """Note the time whenever one more chunk has run."""
        self._done = self._awaited = 0
        self._step = self._next = size // CHUNKS if size >= LARGE else size
        self.marks = []

    async def wait(self, count: int) -> None:
        """Until so many have run. It takes no time of its own: all threads' is counted."""
        self._has_run.clear()
        self._awaited = count  # before the look: the thread looks after it has counted
        try:
            async with asyncio.timeout(DEADLINE):
                while self._done < count:
                    await self._has_run.wait()
                    self._has_run.clear()
        except TimeoutError:
            raise RuntimeError(f"only {self._done} of {count} callbacks ran") from None

    def count(self) -> None:
        done = self._done + 1
        if done == self._next:
            self._next += self._step
            self.marks.append(process_time_ns())
        self._done = done
        if done == self._awaited:
            self._loop.call_soon_threadsafe(self._has_run.set)

    async def acount(self) -> None:
        self.count()

    def function(self, kind: str) -> Callable[[], Any]:
        return self.acount if kind == "async" else self.count


class Collector:
    """How long Python's garbage collector has worked: nanoseconds."""

    def __init__(self) -> None:
        self.spent = 0
        self._began = 0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = thread_time_ns()
        else:
            self.spent += thread_time_ns() - self._began


class Measurement:
    def __init__(self, shape: str, kind: str, size: int) -> None:
        self._size = size
        self._work = Work()
        self._function = self._work.function(kind)
        self._dispatcher = get_runner().dispatcher(asyncio.get_running_loop())
        self._once = {
            "one exchange": self._one_exchange,
            "exchanges": self._exchanges,
            "waiting": self._waiting,
        }[shape]
        self._found = Found()

    async def measure(self) -> Found:
        small = self._size < LARGE
        repetitions = min(300, REPEATED // self._size) if small else 1
        collector = Collector()
        gc.collect()
        for number in range(-(repetitions // 10), repetitions):
            if number == 0:
                self._found = Found()  # what came before was warm-up
            gc.collect(0)
            self._work.expect(self._size)
            before = collector.spent
            await self._once()
            self._found.collecting += (collector.spent - before) / repetitions / self._size
        return self._found

    # The shapes.

    async def _one_exchange(self) -> None:
        """All callbacks are of the same exchange."""
        before = rss()
        exchange = complete_exchange(self._dispatcher)
        current_exchange.set(exchange)
        for count in self._chunks():
            for _ in range(count):
                after_response(self._function)
        self._weigh(before)
        await self._run(lambda: self._end(exchange))

    async def _exchanges(self) -> None:
        """Each has an exchange, and a few of those are under way."""
        registered, before = 0, rss()
        for count in self._chunks():
            for _ in range(count):
                self._register_and_end()
                registered += 1
                if registered % AT_ONCE == 0 or registered == self._size:
                    await self._work.wait(registered)
        self._weigh(before)

    async def _waiting(self) -> None:
        """Each has an exchange, and all wait for the runner's only slot."""
        held = threading.Event()
        current_exchange.set(exchange := complete_exchange(self._dispatcher))
        blocker = after_response(_blocked, held)
        self._end(exchange)
        before = rss()
        for count in self._chunks():
            for _ in range(count):
                self._register_and_end()
        self._weigh(before)
        await self._run(held.set)
        await blocker.wait()

    # What they have in common.

    def _end(self, exchange: Any) -> None:
        exchange.end()
        self._dispatcher.dispatch(exchange)

    def _register_and_end(self) -> None:
        exchange = complete_exchange(self._dispatcher)
        current_exchange.set(exchange)
        after_response(self._function)
        self._end(exchange)

    def _chunks(self) -> Iterator[int]:
        """How many to register, until the next one is asked for."""
        count = self._size // CHUNKS if self._size >= LARGE else self._size
        for _ in range(self._size // count):
            began = process_time_ns()
            yield count
            self._found.register.append((process_time_ns() - began) / count)

    def _weigh(self, before: int) -> None:
        if self._size >= WEIGHED and (now := rss()):
            self._found.bytes = (now - before) / self._size

    async def _run(self, start: Callable[[], object]) -> None:
        marks = [process_time_ns()]
        start()
        await self._work.wait(self._size)
        marks += self._work.marks
        count = self._size // (len(marks) - 1)
        self._found.run += [(after - before) / count for before, after in itertools.pairwise(marks)]


def _blocked(held: threading.Event) -> None:
    held.wait(DEADLINE)


def rss() -> int:
    """Bytes of this process in memory; 0 where that cannot be told."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # no Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def configure(shape: str) -> None:
    """As for most users Django is loaded, which each callback looks after."""
    bounds = {
        "LIMIT": 1 if shape == "waiting" else 100,
        # What several threads make of each other is another question (``interference``).
        "MAX_THREADS": 1,
        "PENDING_LIMIT": 10**9,
        "SLOW_STEP": None,
    }
    settings.configure(USE_TZ=True, ASYNC_AFTER=bounds)
    django.setup()


async def measure(shape: str, kind: str, size: int) -> Found:
    return await Measurement(shape, kind, size).measure()


if __name__ == "__main__":
    shape, kind, *sizes = sys.argv[1:]
    configure(shape)
    found = [asdict(asyncio.run(measure(shape, kind, int(size)))) for size in sizes]
    print(json.dumps(found))
