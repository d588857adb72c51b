"""Threads, destructors, weakref callbacks and signal handlers that all register.

``python -m tests.core.stress SECONDS AT_LEAST`` runs them in a process of its own, which ends
when it stands still: with all stacks, and without an answer.
"""

import asyncio
import faulthandler
import gc
import itertools
import logging
import random
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

from async_after import Callback, CallbackState, Runner, after_response, exchange_scope
from async_after._core.exchange import KEY, Exchange
from async_after._core.runner import runner as runner_module

from .capacity.test_statistics import at_rest
from .conftest import DEADLINE, finish, free, thread_exchange
from .reentry import left_over

S = CallbackState
THREADS = 8
STANDSTILL = 150.0
"""Seconds after which all stacks are shown, and the process ends."""


def _arm() -> None:
    """A signal comes soon: once, as a busy machine would do nothing else."""
    signal.setitimer(signal.ITIMER_REAL, 0.0007)


class Leaves:
    """In a cycle: the collector finds it some day, anywhere, and it does something then."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.me = self
        self._work = work

    def __del__(self) -> None:
        self._work()


class Observed:
    """The same, for a weakref callback."""

    def __init__(self) -> None:
        self.me = self


class Stress:
    """All that is registered, and what has become of it."""

    def __init__(self, runner: Runner, seconds: float, at_least: int) -> None:
        self.runner = runner
        self.seconds = seconds
        self._at_least = at_least
        self._numbers = itertools.count()
        self._ran: list[int] = []
        self.handles: dict[int, Callback[Any]] = {}
        self.answers: dict[int, bool] = {}
        self._observers: dict[int, weakref.ref[Observed]] = {}
        self.counts = dict.fromkeys(["threads", "destructors", "weakrefs", "signals"], 0)
        self.wrong: list[str] = []
        self._is_over = False
        self._depth = 0
        self._exchanges: list[Exchange] = []
        """Some to come to in a destructor: open, ended, late."""

    # What runs.

    def plain(self, number: int) -> None:
        self._ran.append(number)

    async def coroutine(self, number: int) -> None:
        self._ran.append(number)

    async def patient(self, number: int, other: Callback[Any]) -> None:
        """Waits for another one, and lends its slot."""
        self._ran.append(number)
        try:
            await other.wait(STANDSTILL / 2)
        except TimeoutError:
            self.wrong.append(f"{other} did not end")
        except Exception:
            pass  # it was cancelled, or this one comes before it

    def fails(self, number: int) -> None:
        self._ran.append(number)
        raise ValueError(number)

    # What is done.

    def register(self, exchange: Exchange, *, is_plain: bool = False) -> int:
        number = next(self._numbers)
        chance = 3 if is_plain else number % 16
        options: dict[str, Any] = {"request": {KEY: exchange}, "concurrent": chance % 5 == 0}
        if chance % 4 == 1:
            options["key"] = chance
        work: list[Any] = [self.plain, number]
        if chance % 3 == 1:
            work[0] = self.coroutine
        elif chance == 2:
            work[0] = self.fails
        elif chance == 15 and (other := self._some_handle()) is not None:
            work = [self.patient, number, other]
            options["concurrent"] = True
        elif chance == 12:
            options["timeout"] = DEADLINE
        self.handles[number] = after_response.using(**options)(*work)
        return number

    def _some_handle(self) -> Callback[Any] | None:
        last = len(self.handles)
        return self.handles.get(random.randrange(last)) if last else None

    def cancel(self, number: int) -> None:
        handle = self.handles.get(number)
        if handle is not None:
            answer = handle.cancel()
            if answer or number not in self.answers:
                self.answers[number] = answer

    def come_in(self, what: str) -> None:
        """From a destructor, a weakref callback, a signal handler."""
        if self._is_over:
            return
        self.counts[what] += 1
        exchanges = self._exchanges[-8:]
        if not exchanges:
            return
        number = self.register(random.choice(exchanges))
        match number % 7:
            case 0 | 1:
                self.cancel(number - 1)
            case 2:
                self.runner.statistics()
            case 3:
                # No coroutine function: the executor that asgiref starts for it waits for itself
                # where a signal handler has interrupted the start of another one.
                self._scope(is_plain=True)
            case 4:
                exchange = exchanges[0]
                if exchange.end():
                    exchange.host.dispatch(exchange)

    def _scope(self, *, is_plain: bool = False) -> None:
        with exchange_scope() as inner:
            self.register(inner, is_plain=is_plain)

    def leave_something(self) -> None:
        """For the collector."""
        Leaves(lambda: self.come_in("destructors"))
        observed, number = Observed(), next(self._numbers)

        def gone(_: object) -> None:
            self._observers.pop(number, None)
            self.come_in("weakrefs")

        self._observers[number] = weakref.ref(observed, gone)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_over:
            return
        self._depth += 1
        if self._depth < 4:
            _arm()  # the next one comes in the middle of this
        try:
            self.come_in("signals")
        finally:
            self._depth -= 1
            if not self._depth and not self._is_over:
                _arm()

    # The threads.

    def go(self) -> None:
        signal.signal(signal.SIGALRM, self.on_signal)
        _arm()
        end = time.monotonic() + self.seconds
        threads = [threading.Thread(target=self._guarded, args=(end,)) for _ in range(THREADS)]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                # The main thread, where signal handlers run, does the same.
                self.request()
        finally:
            self._is_over = True
            signal.setitimer(signal.ITIMER_REAL, 0)
        for thread in threads:
            thread.join(STANDSTILL)
        gc.collect()
        for exchange in self._exchanges:
            finish(exchange)
        asyncio.run(self.runner.drain(STANDSTILL))
        asyncio.run(free(self.runner))

    def _guarded(self, end: float) -> None:
        try:
            while time.monotonic() < end or len(self.handles) < self._at_least:
                self.request()
        except BaseException as error:
            self.wrong.append(repr(error))
            raise

    def request(self) -> None:
        if self.runner.capacity.ledger.waiting > 200:
            time.sleep(0.002)  # they register faster than three workers work
        exchange = thread_exchange(self.runner)
        self._exchanges.append(exchange)
        numbers = [self.register(exchange) for _ in range(random.randrange(8))]
        self.counts["threads"] += len(numbers)
        self.leave_something()
        if numbers and random.random() < 0.5:
            self.cancel(random.choice(numbers))
        finish(exchange)
        if numbers and random.random() < 0.5:
            self.cancel(numbers[-1])
        if random.random() < 0.1:
            self._scope()
        del self._exchanges[:-64]

    # What must hold.

    def check(self) -> None:
        assert not self.wrong, self.wrong[:5]
        assert all(handle.done() for handle in self.handles.values())
        ran = sorted(self._ran)
        assert len(ran) == len({*ran}), "one has run twice"
        has_run = {*ran}
        for number, handle in self.handles.items():
            if handle.state in (S.SUCCEEDED, S.FAILED):
                assert number in has_run, handle
            if self.answers.get(number):
                assert handle.state in (S.CANCELLED, S.DROPPED), handle
                assert number not in has_run, "cancelled, and has run"
        statistics = self.runner.statistics()
        assert at_rest(statistics), statistics
        assert statistics.registered == len(self.handles)
        deadline = time.monotonic() + DEADLINE
        while left_over(self.runner) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert left_over(self.runner) == []
        assert min(self.counts.values()) > 0, self.counts
        print(f"{statistics.registered} registered, {self.counts}, {statistics}")


def stress(seconds: float, at_least: int) -> None:
    faulthandler.dump_traceback_later(seconds + STANDSTILL, exit=True)
    logging.getLogger("async_after").disabled = True
    # The interpreter switches as often as it can, and collects all the time.
    sys.setswitchinterval(1e-6)
    gc.set_threshold(20, 3, 3)
    runner = Runner(limit=5, max_threads=3, pending_limit=10**6)
    runner_module._default = runner  # scopes have that one
    work = Stress(runner, seconds, at_least)
    work.go()
    work.check()


if __name__ == "__main__":
    stress(float(sys.argv[1]), int(sys.argv[2]))
