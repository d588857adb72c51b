"""Promise 2 against a simple model: any faults in any order, and all are accounted for."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_after import Callback, CallbackState, Outcome, Runner, after_response

from .conftest import (
    DEADLINE,
    disconnected,
    entered,
    finish,
    free,
    gone,
    loop_exchange,
    own_threads,
    thread_exchange,
)
from .full import some_turns

S = CallbackState
OK, BAD, LATE = {S.SUCCEEDED}, {S.FAILED}, {S.TIMED_OUT}
ERRORS = [ValueError, SystemExit, asyncio.CancelledError, GeneratorExit, MemoryError, StopIteration]


@dataclass(frozen=True)
class Registration:
    """What is registered, as the model sees it."""

    kind: str
    lane: str
    concurrent: bool
    number: int


KINDS: dict[str, set[CallbackState]] = {
    "works": OK,
    "raises": BAD,
    "registers": OK,
    "recurses": OK,
    "not wanted": {S.SKIPPED, S.SUCCEEDED},  # unless its exchange ends like that
    "predicate says no": {S.SKIPPED},
    "predicate raises": BAD,
    "takes the outcome and raises": BAD,
    # Coroutine functions only, from here on.
    "cancels itself": {S.FAILED, S.DROPPED},
    "cancels and goes on": OK,
    "never ends": LATE,
    "swallows its timeout": LATE,
    "waits in vain": OK,
    "waits in a task": OK,
}
FOR_ALL = 8
"""The first ones are for plain functions too."""

registrations = st.builds(
    lambda kind, lane, concurrent, number: Registration(
        kind, lane if kind < FOR_ALL or lane != "threads" else "loop", concurrent, number
    ),
    st.integers(0, len(KINDS) - 1),
    st.sampled_from(["loop", "threads", "background"]),
    st.booleans(),
    st.integers(0, 5),
).map(lambda r: Registration([*KINDS][int(r.kind)], r.lane, r.concurrent, r.number))

steps = st.lists(
    st.one_of(
        *[registrations] * 4,  # as likely as all the others together
        st.sampled_from(["finish", "disconnect", "fail", "turn", "new", "thread"]),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("wait and leave"), st.integers(0, 20)),
    ),
    min_size=8,
    max_size=40,
)


class Model:
    """Runs a sequence, and knows what may become of each callback."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.allowed: dict[Callback[Any], set[CallbackState]] = {}
        self.starts: Counter[int] = Counter()
        self.lock = threading.Lock()
        self.ids: dict[Callback[Any], int] = {}
        self.swallowing: set[Callback[Any]] = set()
        self.nested: list[Callback[Any]] = []
        self.all: list[Callback[Any]] = []

    def register(self, what: Registration) -> Callback[Any]:
        options: dict[str, Any] = {"concurrent": what.concurrent, "lane": what.lane}
        match what.kind:
            case "not wanted":
                options["when"] = "error"
            case "predicate says no":
                options["when"] = lambda outcome: False
            case "predicate raises":
                options["when"] = self.predicate_raises
            case "takes the outcome and raises":
                options["takes_outcome"] = True
            case "never ends" | "swallows its timeout":
                options["timeout"] = 0.003
        number = len(self.all)
        registrar: Any = after_response.using(**options)
        plain: Any = self.plain if what.lane == "threads" else self.coroutine
        if options.get("takes_outcome"):
            plain = self.takes_outcome if what.lane == "threads" else self.atakes_outcome
        callback: Callback[Any] = registrar(plain, number, what)
        self.all.append(callback)
        self.ids[callback] = number
        self.allowed[callback] = set(KINDS[what.kind])
        if what.kind == "swallows its timeout":
            self.swallowing.add(callback)
        return callback

    def predicate_raises(self, outcome: Outcome) -> bool:
        raise StopIteration

    def begin(self, number: int) -> None:
        with self.lock:
            self.starts[number] += 1

    def takes_outcome(self, outcome: Outcome, number: int, what: Registration) -> None:
        self.begin(number)
        raise ValueError(outcome.status)

    async def atakes_outcome(self, outcome: Outcome, number: int, what: Registration) -> None:
        self.takes_outcome(outcome, number, what)

    def plain(self, number: int, what: Registration) -> None:
        self.begin(number)
        if what.kind == "raises":
            raise ERRORS[what.number]
        if what.kind == "registers":
            for _ in range(what.number):
                self.nested.append(after_response.using(concurrent=what.concurrent)(int))
        if what.kind == "recurses":
            self.recurse(what.number)

    def recurse(self, left: int) -> None:
        if left:
            self.nested.append(after_response(self.recurse, left - 1))

    async def coroutine(self, number: int, what: Registration) -> None:
        task = asyncio.current_task()
        assert task is not None
        match what.kind:
            case "cancels itself":
                self.begin(number)
                task.cancel()
                await asyncio.sleep(0)
            case "cancels and goes on":
                self.begin(number)
                task.cancel()
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    if what.number % 2:
                        task.uncancel()
            case "never ends":
                self.begin(number)
                await asyncio.Event().wait()
            case "swallows its timeout":
                self.begin(number)
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    await asyncio.sleep(0)
            case "waits in vain" | "waits in a task":
                self.begin(number)
                await self.wait(what)
            case _:
                for _ in range(what.number):
                    await asyncio.sleep(0)
                self.plain(number, what)

    async def wait(self, what: Registration) -> None:
        """For any other one, and not for long."""
        if not self.all:  # it has begun before its own registration returned
            return
        callback = self.all[what.number % len(self.all)]
        waiting = wait_for(callback, 0.001)
        try:
            await (asyncio.create_task(waiting) if what.kind == "waits in a task" else waiting)
        except asyncio.CancelledError:
            if not callback.done() or not isinstance(callback.exception(), asyncio.CancelledError):
                raise  # this one is cancelled

    def check(self, closed: bool) -> None:
        for callback in self.all:
            allowed = self.allowed[callback] | ({S.DROPPED} if closed else set())
            if callback in self.swallowing and len(allowed) > 1:
                allowed |= OK  # it was cancelled for something else before its time was up
            assert callback.state in allowed, f"{callback} of {allowed}"
            begun = self.starts[self.ids[callback]]
            assert begun <= 1, f"{callback} has run {begun} times"
            if callback.state in (S.SUCCEEDED, S.TIMED_OUT):
                assert begun == 1 or callback.state is S.TIMED_OUT
            if callback.state is S.SKIPPED:
                assert not begun
        for callback in self.nested:
            assert callback.state in ({S.SUCCEEDED, S.DROPPED} if closed else OK)
        statistics = self.runner.statistics()
        assert statistics.registered == len(self.all) + len(self.nested)
        assert (statistics.pending, statistics.running, statistics.waiting) == (0, 0, 0)
        assert not self.runner.capacity.ledger._exchanges
        assert not self.runner.capacity.ledger._running


@contextmanager
def silent() -> Iterator[None]:
    """Hundreds of failures need not be in the log; what the loop says of tasks neither."""
    logger = logging.getLogger("async_after")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


async def wait_for(callback: Callback[Any], timeout: float | None) -> None:
    try:
        await callback.wait(timeout)
    except asyncio.CancelledError:
        raise
    except BaseException:  # the callback's own; a SystemExit would end the loop
        pass


async def play(model: Model, sequence: list[Any], end: str) -> None:
    runner = model.runner
    tasks: list[asyncio.Task[Any]] = []
    exchange = loop_exchange(runner)
    exchanges = [exchange]
    for step in sequence:
        match step:
            case Registration():
                with entered(exchange):
                    model.register(step)
            case ("cancel", number) if model.all:
                callback = model.all[number % len(model.all)]
                if not callback.done():
                    model.allowed[callback].add(S.CANCELLED)
                callback.cancel()
            case ("wait and leave", number) if model.all:
                callback = model.all[number % len(model.all)]
                tasks.append(
                    asyncio.ensure_future(wait_for(callback, 0.001 if number % 2 else None))
                )
                if number % 3:
                    await asyncio.sleep(0)
                    tasks[-1].cancel()
            case "finish" if not exchange.is_ended:
                finish(exchange)
            case "disconnect" if not exchange.is_ended:
                disconnected(exchange)
            case "fail" if not exchange.is_ended:
                finish(exchange, error=ValueError())
            case "turn":
                await asyncio.sleep(0)
            case "new":
                exchange = loop_exchange(runner)
                exchanges.append(exchange)
            case "thread":
                exchange = thread_exchange(runner)
                exchanges.append(exchange)
    for each in exchanges:
        if not each.is_ended:
            finish(each)
    if end == "drain":
        await runner.drain(DEADLINE)
    async with asyncio.timeout(DEADLINE):
        await runner.aclose()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await free(runner)
    await some_turns()
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a task is left over"


@pytest.mark.exhaustive
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    sequence=steps,
    limit=st.integers(1, 3),
    max_threads=st.integers(1, 2),
    end=st.sampled_from(["drain", "drain", "drain", "close"]),
)
def test_any_faults_in_any_order(
    sequence: list[Any], limit: int, max_threads: int, end: str
) -> None:
    """Each is run once or accounted for; no slot, thread or task is lost or left over."""
    before = own_threads()
    runner = Runner(
        limit=limit,
        max_threads=max_threads,
        wait_timeout=0.0 if end == "close" else DEADLINE,
        close_timeout=DEADLINE,
        slow_step=None,
    )
    model = Model(runner)
    with silent():
        asyncio.run(play(model, sequence, end))
        asyncio.run(gone(own_threads() - before))
    model.check(closed=end == "close")
    assert runner.capacity.limiter.used == 0
    assert not runner.capacity.limiter._waiting
    assert runner.statistics().overdue == 0
