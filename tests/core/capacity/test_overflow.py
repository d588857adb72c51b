"""Promise 9: what ``overflow="drop"`` drops and ``overflow="raise"`` refuses."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from async_after import (
    Callback,
    CallbackNotRun,
    CallbackState,
    Outcome,
    Runner,
    RunnerFull,
    aafter_response,
    after_response,
    exchange_scope,
    get_runner,
)
from async_after._core.capacity.overflow import FULL
from async_after._core.exchange import Exchange
from async_after.asgi import AfterResponseMiddleware

from ..conftest import (
    DEADLINE,
    MakeRunner,
    entered,
    finish,
    free,
    loop_exchange,
    records,
    responding,
    started,
    thread_exchange,
)
from ..exchange.test_exchange_threads import frequent_switches as frequent_switches
from ..full import Full, app, full, nothing, request

SUCCEEDED, DROPPED = CallbackState.SUCCEEDED, CallbackState.DROPPED
PENDING = CallbackState.PENDING
concurrently = after_response.using(concurrent=True)


@pytest.fixture
def dropping(make_runner: MakeRunner) -> Runner:
    return make_runner(limit=1, pending_limit=2, overflow="drop")


@pytest.fixture
def raising(make_runner: MakeRunner) -> Runner:
    return make_runner(limit=1, pending_limit=2, overflow="raise")


# "drop"


async def test_what_has_a_slot_does_not_wait(make_runner: MakeRunner) -> None:
    """Though no thread has begun it yet: nothing is over the limit here."""
    runner = make_runner(limit=3, max_threads=3, pending_limit=1, overflow="drop")
    let_go = threading.Event()
    with responding(loop_exchange(runner)):
        callbacks = [concurrently(let_go.wait, DEADLINE) for _ in range(3)]
    assert runner.statistics().waiting == 0
    assert DROPPED not in [callback.state for callback in callbacks]
    with responding(loop_exchange(runner)):
        waits, newest = concurrently(nothing), concurrently(nothing)
    assert (waits.state, newest.state) == (PENDING, DROPPED)
    let_go.set()
    await runner.drain(DEADLINE)
    assert {callback.state for callback in callbacks} == {waits.state} == {SUCCEEDED}


def test_a_scope_does_not_fill_the_runner() -> None:
    seen: list[int] = []
    with exchange_scope():
        after_response(lambda: seen.append(get_runner().statistics().waiting))
        for _ in range(50):
            after_response(nothing)
    assert seen == [0], "those behind it wait for no slot"


async def test_drop_takes_the_newest(dropping: Runner) -> None:
    async with full(dropping) as state:
        state.queue(3)
        assert [c.state for c in state.waiting] == [PENDING] * 2 + [DROPPED] * 3
        assert dropping.statistics().waiting == 2
    assert [c.state for c in state.waiting] == [SUCCEEDED] * 2 + [DROPPED] * 3
    with pytest.raises(CallbackNotRun, match="dropped: the runner is full"):
        state.waiting[-1].result()
    await free(dropping)


@pytest.mark.parametrize("new_exchange", [loop_exchange, thread_exchange])
async def test_drop_takes_the_newest_of_those_that_give_way(
    dropping: Runner, new_exchange: Callable[[Runner], Exchange]
) -> None:
    """They end one right behind the other, before any of them is handed over."""
    async with full(dropping, waiting=0):
        callbacks = []
        for _ in range(4):
            with entered(exchange := new_exchange(dropping)):
                callbacks += [concurrently(nothing), after_response(nothing)]
            exchange.complete()
            assert exchange.end()
            host: Any = exchange.host
            host.give_way(exchange)
        dropped = callbacks[2:]
        for callback in dropped:
            with pytest.raises(CallbackNotRun):
                await callback.wait(DEADLINE)
        assert [callback.state for callback in dropped] == [DROPPED] * 6
    assert [callback.state for callback in callbacks[:2]] == [SUCCEEDED] * 2
    await free(dropping)


async def test_drop_takes_the_last_of_a_chain(dropping: Runner) -> None:
    """The one that has begun does not wait; two may; the rest is too much."""
    with responding(loop_exchange(dropping)):
        callbacks = [after_response(nothing) for _ in range(5)]
    assert [c.state for c in callbacks[3:]] == [DROPPED] * 2
    await dropping.drain(DEADLINE)
    assert [c.state for c in callbacks[:3]] == [SUCCEEDED] * 3


@pytest.mark.parametrize("kinds", ["scss", "sscs", "ccss", "sscc", "cscs", "cccc"])
async def test_drop_takes_the_newest_of_each_kind(dropping: Runner, kinds: str) -> None:
    """Concurrent or not: who came last is dropped first."""
    async with full(dropping, waiting=0):
        with responding(loop_exchange(dropping)):
            callbacks = [(concurrently if k == "c" else after_response)(nothing) for k in kinds]
        states = [callback.state for callback in callbacks]
    assert states == [PENDING, PENDING, DROPPED, DROPPED]
    assert [c.state for c in callbacks] == [SUCCEEDED, SUCCEEDED, DROPPED, DROPPED]
    await free(dropping)


@pytest.mark.parametrize("how", ["cancelled", "replaced"])
async def test_drop_passes_over_the_ended(dropping: Runner, how: str) -> None:
    """What was cancelled before the response is no more there to be dropped."""
    async with full(dropping, waiting=0):
        with responding(loop_exchange(dropping)):
            kept = [after_response(nothing), concurrently(nothing)]
            ended_before = concurrently.using(key="k")(nothing)
            if how == "cancelled":
                ended_before.cancel()
                dropped = concurrently(nothing)
            else:
                dropped = concurrently.using(key="k")(nothing)
            concurrently(nothing).cancel()
        assert [c.state for c in kept] == [PENDING] * 2
    assert ended_before.state is CallbackState.CANCELLED
    assert [kept[0].state, kept[1].state, dropped.state] == [SUCCEEDED, SUCCEEDED, DROPPED]


async def test_room_again_after_a_drop(dropping: Runner) -> None:
    for _ in range(3):
        async with full(dropping) as state:
            state.queue(2)
        assert [c.state for c in state.waiting] == [SUCCEEDED] * 2 + [DROPPED] * 2


async def test_those_that_are_dropped_leave_the_line(dropping: Runner) -> None:
    async with full(dropping) as state:
        state.queue(200)
        assert len(dropping.capacity.limiter._waiting) <= 3
    assert dropping.statistics().dropped == 200
    assert not dropping.capacity.ledger._exchanges


async def test_drop_in_a_callback(make_runner: MakeRunner) -> None:
    """What a callback registers belongs to a finished exchange."""
    runner = make_runner(limit=1, pending_limit=100, overflow="drop")
    callbacks: list[Callback[Any]] = []

    async def registers_many() -> None:
        callbacks.extend(after_response(nothing) for _ in range(10_000))

    with responding(loop_exchange(runner)):
        after_response(registers_many)
    await runner.drain(DEADLINE)
    assert [c.state for c in callbacks] == [SUCCEEDED] * 100 + [DROPPED] * 9_900
    await free(runner)


async def test_drop_of_late_ones(dropping: Runner) -> None:
    """From a task that has outlived its request."""
    exchange = loop_exchange(dropping)
    with entered(exchange):
        finish(exchange)
        async with full(dropping, waiting=1):
            callbacks = [after_response(nothing), after_response(nothing), concurrently(nothing)]
            states = [callback.state for callback in callbacks]
    assert states == [PENDING, DROPPED, DROPPED]
    assert callbacks[0].state is SUCCEEDED


async def test_drop_of_a_wrappers_own(dropping: Runner) -> None:
    heard: list[Outcome] = []
    wrapped = AfterResponseMiddleware(app, runner=dropping, callbacks=[heard.append])
    async with full(dropping):
        await request(wrapped)
    assert not heard
    assert dropping.statistics().dropped == 1


class Lines(logging.Handler):
    """The lines about what was dropped, and when the second one is there."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []
        self.second = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        if len(self.lines) == 2:
            self.second.set()


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    logger = logging.getLogger("async_after")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_drops_are_logged_once_a_second(dropping: Runner, lines: Lines) -> None:
    """The first by its name, the others together and by name as well."""
    async with full(dropping) as state:
        state.queue(3)
        with responding(loop_exchange(dropping)):
            after_response.using(name="other")(nothing)
        assert lines.lines == [
            "callback tests.core.full.nothing of GET /waits (200) was dropped: the runner is full,"
            " and more would wait than pending_limit allows"
        ]
    await started(lines.second)
    assert lines.lines[1:] == [
        f"callbacks were dropped: 3 more, 2 x tests.core.full.nothing ({FULL}), 1 x other ({FULL})"
    ]
    assert state.waiting[0].state is SUCCEEDED


async def test_a_shutdown_names_the_drops_that_had_no_line(
    dropping: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    async with full(dropping) as state:
        state.queue(3)
    await dropping.aclose()
    messages = [record.getMessage() for record in records(caplog)]
    assert len(messages) == 2
    assert messages[1] == f"callbacks were dropped: 2 more, 2 x tests.core.full.nothing ({FULL})"


THREADS, EACH, ROOM = 4, 60, 50


def finish_many(runner: Runner, make: Callable[[Runner], Any], callbacks: list[Any]) -> None:
    for number in range(EACH):
        with responding(make(runner)):
            for registrar in (after_response, concurrently, after_response)[: number % 3 + 1]:
                callbacks.append(registrar(int if number % 2 else nothing))


@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.parametrize("kind", ["threads", "loops"])
def test_drop_is_exact(make_runner: MakeRunner, kind: str) -> None:
    """Also when several threads or loops finish at once: not one too many, not one too few."""
    runner = make_runner(limit=1, pending_limit=ROOM, overflow="drop")
    callbacks: list[Callback[Any]] = []
    begin, over = threading.Barrier(THREADS), threading.Event()

    def in_thread() -> None:
        begin.wait(DEADLINE)
        finish_many(runner, thread_exchange, callbacks)

    async def in_loop() -> None:
        begin.wait(DEADLINE)
        finish_many(runner, loop_exchange, callbacks)
        await asyncio.to_thread(over.wait, DEADLINE)

    def run_loop() -> None:
        asyncio.run(in_loop())

    async def main() -> None:
        state = Full(runner)
        await state.hold()
        threads = [
            threading.Thread(target=in_thread if kind == "threads" else run_loop, daemon=True)
            for _ in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        async with asyncio.timeout(DEADLINE):
            while len(callbacks) < THREADS * EACH * 2 or runner.statistics().open_exchanges:
                await asyncio.sleep(0.001)
            while runner.statistics().waiting > ROOM:
                await asyncio.sleep(0.001)
        statistics = runner.statistics()
        assert (statistics.waiting, statistics.running) == (ROOM, 1)
        assert statistics.dropped == len(callbacks) - ROOM
        await state.let_go()
        over.set()
        for thread in threads:
            await asyncio.to_thread(thread.join, DEADLINE)

    asyncio.run(main())
    counts = {state: [c.state for c in callbacks].count(state) for state in CallbackState}
    assert counts[SUCCEEDED] == ROOM
    assert counts[DROPPED] == len(callbacks) - ROOM
    assert runner.capacity.ledger._doomed == 0
    asyncio.run(free(runner))


# "raise"


async def test_raise_registers_nothing(raising: Runner) -> None:
    exchange = loop_exchange(raising)
    with entered(exchange):
        first = after_response.using(key="k")(nothing)
    async with full(raising):
        before = raising.statistics()
        with entered(exchange):
            for registrar in (after_response, concurrently, after_response.using(key="k")):
                with pytest.raises(RunnerFull, match=r"after_response\(tests.core.full.nothing\)"):
                    registrar(nothing)
            with pytest.raises(RunnerFull, match=r"2 callbacks .*pending_limit=2\), and 1 may run"):
                await aafter_response(nothing)
        assert raising.statistics() == before
        assert first.state is PENDING, "replaced by one that was refused"
        assert exchange.pending() == [first]
        finish(exchange)
    assert first.state is SUCCEEDED


async def test_raise_names_the_callback(raising: Runner) -> None:
    async with full(raising):
        with entered(loop_exchange(raising)), pytest.raises(RunnerFull, match=r"\(my name\)"):
            after_response.using(name="my name")(nothing)


async def test_raise_no_more_when_there_is_room(raising: Runner) -> None:
    async with full(raising) as state:
        with entered(loop_exchange(raising)), pytest.raises(RunnerFull):
            after_response(nothing)
        assert state.waiting[0].cancel()
        with responding(loop_exchange(raising)):
            callback = after_response(nothing)
    assert callback.state is SUCCEEDED


async def test_raise_is_never_for_a_wrappers_own(raising: Runner) -> None:
    """The request has done nothing that could be refused; what is kept is told."""
    heard: list[int | None] = []
    wrapped = AfterResponseMiddleware(
        AfterResponseMiddleware(app, runner=raising, callbacks=[lambda o: heard.append(o.status)]),
        runner=raising,
        callbacks=[lambda outcome: heard.append(outcome.status)],
        hold=False,
    )
    async with full(raising):
        await request(wrapped)
        assert raising.statistics().pending == 4
    assert heard == [200, 200]


async def test_raise_in_a_callback_and_late(make_runner: MakeRunner) -> None:
    """There it fails the callback that asks for too much, and nothing else."""
    runner = make_runner(limit=1, pending_limit=10, overflow="raise")
    callbacks: list[Callback[None]] = []
    exchange = loop_exchange(runner)

    async def registers_many() -> None:
        for _ in range(100):
            callbacks.append(after_response(nothing))

    with responding(exchange):
        greedy = after_response(registers_many)
    await runner.drain(DEADLINE)
    assert isinstance(greedy.exception(), RunnerFull)
    assert [c.state for c in callbacks] == [SUCCEEDED] * 10
    async with full(runner):
        with entered(exchange), pytest.raises(RunnerFull):
            after_response(nothing)
    await free(runner)
