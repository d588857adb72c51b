"""Helpers: what runs while something comes back in, what comes back in, and what must hold then."""

import asyncio
import copy
import functools
import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from async_after import Callback, CallbackState, Runner, after_response, exchange_scope
from async_after._core.exchange import Exchange, Options
from async_after._core.runtime import Latch

from .bytecodes import AtBytecode
from .capacity.test_statistics import at_rest
from .conftest import DEADLINE, entered, finish

S = CallbackState


class Key:
    """One whose comparison is Python code, as a user's may be. Never under the lock."""

    def __init__(self, number: int, run: "Run") -> None:
        self.number = number
        self._run = run

    def __hash__(self) -> int:
        self._run.foreign()
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        self._run.foreign()
        return isinstance(other, Key) and other.number == self.number


def _registrar(key: Key | int | None = None, **options: Any) -> Any:
    """With options that were looked at before: it is no part of what is shown here."""
    registrar = _checked(**options)
    if key is None:
        return registrar
    keyed = object.__new__(type(registrar))
    keyed._options = copy.copy(registrar._options)
    object.__setattr__(keyed._options, "key", key)
    keyed._exchange = None
    return keyed


@functools.cache
def _checked(**options: Any) -> Any:
    return after_response.using(**options)


class Run:
    """One way through the core, at one point of which something comes back in."""

    def __init__(self, runner: Runner, exchange: Exchange, late: Exchange, *, is_async: bool):
        self.runner = runner
        self.exchange = exchange
        self.late = late
        """One that has ended before."""
        self._is_async = is_async
        self._numbers = itertools.count()
        self.handles: dict[int, Callback[Any]] = {}
        self.ran: list[int] = []
        self.answers: list[tuple[Callback[Any], bool]] = []
        self.expected = 0
        self.opened: list[int] = []
        """Of the latches that were waited for, so many are expected to open."""
        self.tasks: list[asyncio.Task[object]] = []
        self.wrong: list[str] = []
        self.is_inside = False
        """Something has come back in."""
        self.scope: exchange_scope | None = None

    # What is registered.

    def plain(self, number: int) -> None:
        self.foreign()
        self.ran.append(number)

    async def coroutine(self, number: int) -> None:
        self.foreign()
        self.ran.append(number)

    def foreign(self) -> None:
        """Called where the user's code is: it must not be under the lock."""
        if not self.is_inside and self.runner.capacity.ledger.gate.lock._is_owned():  # type: ignore[attr-defined]
            self.wrong.append("foreign code under the lock")

    def register(
        self, exchange: Exchange, *, is_async: bool | None = None, **options: Any
    ) -> Callback[Any]:
        number = next(self._numbers)
        is_async = self._is_async if is_async is None else is_async
        registrar = _registrar(**options)
        with entered(exchange):
            function: Any = self.coroutine if is_async else self.plain
            handle: Callback[Any] = registrar(function, number)
        self.handles[number] = handle
        return handle

    def register_dormant(self, exchange: Exchange) -> Callback[Any]:
        """One that waits for a commit, as ``on_commit`` does it."""
        number = next(self._numbers)
        task: Any = self.plain, (number,), {}
        sleeper: Callback[Any] = Callback(exchange, "sleeper", Options(), False, task)
        self.handles[number] = sleeper
        exchange.add(sleeper, dormant=True)
        return sleeper

    def request(self, exchange: Exchange, *, wait: bool = True) -> None:
        """What a view does."""
        for key in (None, 1, None, 1):
            self.register(exchange, key=None if key is None else Key(key, self))
        self.register(exchange, concurrent=True)
        self.register(exchange, when="success")
        self.register(exchange, when="error")
        self.register(exchange, timeout=DEADLINE)
        victim = self.register(exchange)
        self.cancel(victim)
        if wait:
            self.wait(victim)
            self.wait(self.register(exchange))

    # What comes back in.

    def cancel(self, victim: Callback[Any]) -> None:
        was = victim.state
        answer = victim.cancel()
        self.answers.append((victim, answer))
        if answer and was is not S.PENDING:
            self.wrong.append(f"cancel() of a {was.name} one says True")
        if not answer and victim.state is S.PENDING:
            self.wrong.append("cancel() of a PENDING one says False")

    def wait(self, callback: Callback[Any]) -> None:
        self.hear(callback._owner.latch(callback))

    def hear(self, latch: Latch | None) -> None:
        """It opens some time. (``None``: it would be open.)"""
        if latch is not None:
            self.expected += 1
            latch.subscribe(partial(self.opened.append, 1))

    def check(self, at: AtBytecode) -> None:
        """When all is over."""
        handles = {**self.handles}
        assert not at.failures, at.failures
        assert not self.wrong, self.wrong
        assert [handle for handle in handles.values() if not handle.done()] == []
        self._check_cancelled(handles)
        self._check_runs(handles)
        self._check_order(handles)
        assert len(self.opened) == self.expected, "somebody waits for ever"
        statistics = self.runner.statistics()
        assert at_rest(statistics), statistics
        assert statistics.registered == len(handles), (statistics, len(handles), self.handles)

    def _check_cancelled(self, handles: dict[int, Callback[Any]]) -> None:
        for victim, was_cancelled in self.answers:
            # (One that was being dropped at that moment is as surely never run.)
            if was_cancelled:
                assert victim.state in (S.CANCELLED, S.DROPPED, S.SKIPPED), "cancel() has said True"
                [number] = [n for n, handle in handles.items() if handle is victim]
                assert number not in self.ran, "cancelled, and has run"

    def _check_runs(self, handles: dict[int, Callback[Any]]) -> None:
        counts = Counter(self.ran)
        expected = {S.SUCCEEDED: (1,), S.SKIPPED: (0,), S.DROPPED: (0,), S.CANCELLED: (0, 1)}
        assert {*counts} <= {*handles}, "nobody has its handle"
        for number, handle in handles.items():
            assert counts[number] in expected[handle.state], (handle, counts[number])

    def _check_order(self, handles: dict[int, Callback[Any]]) -> None:
        numbers = [
            handles[number]._number
            for number in self.ran
            if handles[number]._owner is self.exchange
            and not handles[number].options.concurrent
            and handles[number].options.when != "acknowledged"
        ]
        assert numbers == sorted(numbers), "out of order (promise 6)"


def left_over(runner: Runner) -> list[str]:
    """What is left in the books, and should not. (A worker ends a moment behind its callback.)"""
    capacity, ledger, pool = runner.capacity, runner.capacity.ledger, runner.capacity.pool
    line = [*capacity.limiter._returned, *capacity.limiter._waiting]
    slots = {"used": capacity.limiter.used, "line": line}
    books = {"exchanges": ledger._exchanges, "running": ledger._running, "made": ledger.making}
    gates = {"asked": ledger.gate.asked, "busy": ledger.gate.is_busy, "lent": capacity.limiter.lent}
    workers = {"backlog": pool._backlog, "workers": pool._busy, "asked of them": pool.gate.asked}
    everything = {**slots, **books, **gates, **workers}
    return [f"{name}: {value}" for name, value in everything.items() if value]


def end_threads(runner: Runner) -> None:
    """Its idle threads end, and nobody looks any more for callbacks that run for long."""
    capacity = runner.capacity
    capacity.pool.close()
    capacity.background.close()
    capacity.timers.hurry()
    capacity.starts.hurry()


# The doors: what comes back in.

Door = Callable[[Run], None]


def register(run: Run) -> None:
    for is_async in (False, True):
        run.register(run.exchange, is_async=is_async)
        run.register(run.exchange, is_async=is_async, concurrent=True)


def register_late(run: Run) -> None:
    for is_async in (False, True):
        run.register(run.late, is_async=is_async)
        run.register(run.late, is_async=is_async, concurrent=True)


def replace(run: Run) -> None:
    run.register(run.exchange, key=Key(1, run))
    run.register(run.late, key=Key(1, run))
    run.register(run.late, key=Key(1, run))


def cancel_first(run: Run) -> None:
    if run.handles:
        run.cancel(run.handles[min(run.handles)])


def cancel_all(run: Run) -> None:
    for handle in [*run.handles.values()]:
        run.cancel(handle)


def register_and_cancel(run: Run) -> None:
    for exchange in (run.exchange, run.late):
        run.cancel(run.register(exchange, concurrent=True))
        run.cancel(run.register(exchange))
        run.register(exchange)


def wait(run: Run) -> None:
    """By latches, and where a loop runs in tasks too. (A destructor cannot await.)"""
    for handle in [*run.handles.values()]:
        run.wait(handle)
    run.wait(run.register(run.exchange))
    run.hear(run.exchange.idle_latch())
    run.hear(run.runner.capacity.ledger._idle_latch())
    if asyncio._get_running_loop() is not None:
        loop = asyncio.get_running_loop()
        for handle in [*run.handles.values()]:
            run.tasks.append(loop.create_task(handle.wait(DEADLINE)))


def end(run: Run) -> None:
    finish(run.exchange)


def statistics(run: Run) -> None:
    seen = run.runner.statistics()
    if min(seen.pending, seen.running, seen.waiting, seen.open_exchanges) < 0:
        run.wrong.append(str(seen))
    # And whoever else asks.
    run.exchange.pending()
    run.runner.capacity.ledger.long_running(DEADLINE)


def scope(run: Run) -> None:
    for is_async in (False, True):
        with exchange_scope() as inner:
            run.register(inner, is_async=is_async)
            run.register(inner, is_async=is_async, concurrent=True)
            run.register(run.exchange)


def leave_scope(run: Run) -> None:
    """What the collector does with a generator that has entered one."""
    left, run.scope = run.scope, None
    if left is not None:
        left.__exit__(None, None, None)


def make_ready(run: Run) -> None:
    """Or skip; and those that wait for the client."""
    for exchange in (run.exchange, run.late):
        exchange.ready(run.register_dormant(exchange))
        exchange.skip_dormant(run.register_dormant(exchange))
        run.register(exchange, when="acknowledged")


DOORS: dict[str, Door] = {
    "register": register,
    "register late": register_late,
    "replace": replace,
    "cancel the first": cancel_first,
    "cancel all": cancel_all,
    "register and cancel": register_and_cancel,
    "wait": wait,
    "end": end,
    "statistics": statistics,
    "scope": scope,
    "leave a scope": leave_scope,
    "make ready": make_ready,
}


# The places.


class Ear:
    """An instrument: what it does is foreign code."""

    def __init__(self) -> None:
        self.run: Run | None = None

    def hear(self, callback: Callback[Any]) -> None:
        if self.run is not None:
            self.run.foreign()

    registered = started = ended = hear
