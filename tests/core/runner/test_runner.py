"""Promise 9, bounded, and how callbacks get to their lanes and back."""

import asyncio
import threading
from typing import Any

import pytest

from async_after import Callback, CallbackState, Runner, after_response
from async_after._core.exchange import Exchange
from async_after._core.instrumentation import Instrument
from async_after._core.runner import InlineDispatcher

from ..conftest import (
    DEADLINE,
    MakeRunner,
    ended,
    entered,
    finish,
    free,
    gone,
    loop_exchange,
    own_threads,
    responding,
    started,
    thread_exchange,
)

concurrently = after_response.using(concurrent=True)


class Peak:
    """How many callbacks were under way at once, at most."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.peak = self.total = 0

    def __enter__(self) -> None:
        with self.lock:
            self.now += 1
            self.total += 1
            self.peak = max(self.peak, self.now)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.now -= 1

    async def for_some_steps(self) -> None:
        with self:
            for _ in range(10):
                await asyncio.sleep(0)


async def test_bounded(make_runner: MakeRunner) -> None:
    """``limit`` at once: a chain counts for one, each concurrent callback for itself."""
    runner = make_runner(limit=3)
    peak = Peak()
    for _ in range(4):
        with responding(loop_exchange(runner)):
            for _ in range(3):
                after_response(peak.for_some_steps)
                concurrently(peak.for_some_steps)
    await runner.drain(DEADLINE)
    assert (peak.peak, peak.total) == (3, 24)


async def test_a_chain_is_one_slot(make_runner: MakeRunner) -> None:
    runner = make_runner(limit=2)
    both = [asyncio.Event(), asyncio.Event()]

    async def meet(own: int) -> None:
        both[own].set()
        await started(both[1 - own])

    for own in (0, 1):
        with responding(loop_exchange(runner)):
            first = after_response(meet, own)
            after_response(meet, own)
    await ended(first)
    await runner.drain(DEADLINE)
    assert first.state is CallbackState.SUCCEEDED


async def test_limit_holds_for_plain_functions(make_runner: MakeRunner) -> None:
    runner = make_runner(limit=2, max_threads=8)
    peak, pair = Peak(), threading.Barrier(2)

    def in_pairs() -> None:
        with peak:
            pair.wait(DEADLINE)

    with responding(loop_exchange(runner)):
        for _ in range(10):
            concurrently(in_pairs)
    await runner.drain(DEADLINE)
    assert (peak.peak, peak.total, pair.broken) == (2, 10, False)


async def test_max_threads(make_runner: MakeRunner) -> None:
    runner = make_runner(max_threads=2)
    peak, pair = Peak(), threading.Barrier(2)
    threads = set()

    def in_pairs() -> None:
        threads.add(threading.current_thread())
        with peak:
            pair.wait(DEADLINE)

    with responding(loop_exchange(runner)):
        callbacks = [concurrently(in_pairs) for _ in range(10)]
    await runner.drain(DEADLINE)
    assert {callback.state for callback in callbacks} == {CallbackState.SUCCEEDED}
    assert (peak.peak, len(threads)) == (2, 2)
    assert threading.main_thread() not in threads


async def test_consecutive_plain_functions_share_a_hop(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops = 0
    submit = runner.capacity.pool.submit

    def counted(*work: Any, **options: Any) -> bool:
        nonlocal hops
        hops += 1
        return submit(*work, **options)

    monkeypatch.setattr(runner.capacity.pool, "submit", counted)
    threads = []

    async def between() -> None:
        pass

    with responding(loop_exchange(runner)):
        for _ in range(5):
            after_response(lambda: threads.append(threading.get_ident()))
        after_response(between)
        for _ in range(5):
            after_response(lambda: threads.append(threading.get_ident()))
    await runner.drain(DEADLINE)
    assert hops == 2
    assert len(set(threads[:5])) == len(set(threads[5:])) == 1


async def test_in_order(runner: Runner) -> None:
    """First-in, first-out over loop and threads; what a callback registers joins the end."""
    order: list[int] = []

    async def on_loop(number: int) -> None:
        await asyncio.sleep(0)
        order.append(number)
        if number < 10:
            after_response(in_thread, number + 10)

    def in_thread(number: int) -> None:
        order.append(number)
        if number < 10:
            after_response(on_loop, number + 10)

    with responding(loop_exchange(runner)):
        for number, function in enumerate(
            [in_thread, in_thread, on_loop, on_loop, in_thread, on_loop]
        ):
            after_response(function, number)
    await runner.drain(DEADLINE)
    assert order == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15]


async def test_concurrent_neither_waits_nor_holds_up(runner: Runner) -> None:
    first, second = asyncio.Event(), threading.Event()
    order = []

    async def sequential() -> None:
        await started(first)
        order.append("sequential")
        second.set()

    async def overtakes() -> None:
        order.append("overtakes")
        first.set()

    def waits() -> None:
        assert second.wait(DEADLINE)
        order.append("waits")

    with responding(loop_exchange(runner)):
        after_response(sequential)
        concurrently(waits)
        concurrently(overtakes)
    await runner.drain(DEADLINE)
    assert order == ["overtakes", "sequential", "waits"]


async def test_never_before(runner: Runner) -> None:
    """Registered, response sent in full: and nothing starts until the app has returned."""
    exchange = loop_exchange(runner)
    ran = threading.Event()
    with entered(exchange):
        plain, single = after_response(ran.set), concurrently(ran.set)
    exchange.start(200, ())
    exchange.complete()
    for _ in range(5):
        await asyncio.sleep(0)
    assert plain.state is single.state is CallbackState.PENDING
    assert plain.outcome is None
    assert not ran.is_set()
    finish(exchange)
    await started(ran)
    await runner.drain(DEADLINE)


async def test_late(runner: Runner) -> None:
    """A task that outlives its request registers: it runs, with the old outcome."""
    exchange = loop_exchange(runner)
    with entered(exchange):
        finish(exchange, status=503)
        outcomes = [
            await after_response.using(takes_outcome=True)(lambda outcome: outcome).wait(DEADLINE)
            for _ in range(2)
        ]
    assert [outcome.status for outcome in outcomes] == [503, 503]
    assert outcomes[0] is outcomes[1]


def test_late_from_a_thread(runner: Runner) -> None:
    exchange = thread_exchange(runner)
    ran = threading.Event()
    with entered(exchange):
        finish(exchange)
        after_response(ran.set)
    assert ran.wait(DEADLINE)


def test_idle_cost(runner: Runner) -> None:
    """No callbacks: no list, no thread, and nothing for the runner to do."""
    before = own_threads()
    exchange = thread_exchange(runner)
    with entered(exchange):
        assert not exchange.end()
    assert exchange._queue is None
    assert not runner.capacity.ledger._exchanges
    assert own_threads() == before


def test_coroutine_function_without_a_loop(runner: Runner) -> None:
    exchange = thread_exchange(runner)
    order = []

    async def on_a_loop_of_its_own() -> None:
        await asyncio.sleep(0)
        order.append("async")

    with responding(exchange):
        after_response(order.append, "first")
        after_response(on_a_loop_of_its_own)
        after_response(order.append, "last")
    assert exchange.idle_latch().wait_in_thread(DEADLINE)
    assert order == ["first", "async", "last"]


# A callback that waits for another one lends its slot.


async def test_waiting_lends_the_slot(make_runner: MakeRunner) -> None:
    runner = make_runner(limit=1)

    async def wait_for(callback: Callback[int]) -> int:
        return await callback.wait(DEADLINE)

    async def answer() -> int:
        return 42

    with responding(loop_exchange(runner, "/waits")) as waiting:
        with entered(loop_exchange(runner, "/other")) as other:
            wanted = after_response(answer)
        waiter = after_response(wait_for, wanted)
    finish(other)
    assert await waiter.wait(DEADLINE) == 42
    await waiting.idle_latch().wait(DEADLINE)
    await runner.drain(DEADLINE)
    await free(runner)


async def test_waiting_twice_lends_one_slot(make_runner: MakeRunner) -> None:
    runner = make_runner(limit=1)
    peak = Peak()
    others = [loop_exchange(runner) for _ in range(4)]
    wanted = []
    for other in others:
        with entered(other):
            wanted.append(after_response(peak.for_some_steps))

    async def wait_for_all() -> None:
        await asyncio.gather(*(callback.wait(DEADLINE) for callback in wanted))

    with responding(loop_exchange(runner)):
        waiter = after_response(wait_for_all)
    await asyncio.sleep(0)
    for other in others:
        finish(other)
    await waiter.wait(DEADLINE)
    await runner.drain(DEADLINE)
    assert (peak.peak, peak.total) == (1, 4)
    await free(runner)


async def test_an_inline_callback_has_no_slot_to_lend(make_runner: MakeRunner) -> None:
    """Callbacks of scopes and test clients run outside the limit: they have none."""
    runner = make_runner(limit=1)
    peak = Peak()
    others = [loop_exchange(runner) for _ in range(3)]
    wanted = []
    for other in others:
        with entered(other):
            wanted.append(after_response(peak.for_some_steps))

    async def wait_for_the_last() -> None:
        for other in others:
            finish(other)
        await wanted[-1].wait(DEADLINE)

    dispatcher = InlineDispatcher(runner)
    inline = Exchange(dispatcher)
    with entered(inline):
        after_response(wait_for_the_last)
    inline.end()
    await dispatcher.arun(inline)
    await runner.drain(DEADLINE)
    assert (peak.peak, peak.total) == (1, 3)
    await free(runner)


async def test_no_threads_left(make_runner: MakeRunner) -> None:
    """Promise 11: after ``aclose`` neither a thread nor a task is left behind."""
    threads, tasks = own_threads(), asyncio.all_tasks()
    runner = make_runner()
    meet = threading.Barrier(3)
    with responding(loop_exchange(runner)):
        for _ in range(3):
            after_response.using(concurrent=True, timeout=DEADLINE)(meet.wait, DEADLINE)
            after_response(asyncio.sleep, 0)
    await runner.drain(DEADLINE)
    made = own_threads() - threads
    assert len(made) >= 3
    await runner.aclose()
    await gone(made)
    assert asyncio.all_tasks() == tasks


class Recording:
    """An instrument that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, CallbackState]] = []

    def registered(self, callback: Callback[object]) -> None:
        self.told.append(("registered", callback.name, callback.state))

    def started(self, callback: Callback[object]) -> None:
        self.told.append(("started", callback.name, callback.state))

    def ended(self, callback: Callback[object]) -> None:
        self.told.append(("ended", callback.name, callback.state))


async def test_instruments_are_told(make_runner: MakeRunner) -> None:
    instrument = Recording()
    assert isinstance(instrument, Instrument)
    runner = make_runner(instruments=[instrument])

    async def on_loop() -> None:
        pass

    with responding(loop_exchange(runner)):
        after_response.using(name="plain")(int)
        after_response.using(name="async")(on_loop)
        after_response.using(name="fails")(int, "x")
        after_response.using(name="skipped", when="error")(int)
        after_response.using(name="cancelled")(int).cancel()
    await runner.drain(DEADLINE)
    by_name = {
        name: [(event, state.name) for event, told, state in instrument.told if told == name]
        for name in ("plain", "async", "fails", "skipped", "cancelled")
    }
    ran = [("registered", "PENDING"), ("started", "RUNNING")]
    assert by_name == {
        "plain": [*ran, ("ended", "SUCCEEDED")],
        "async": [*ran, ("ended", "SUCCEEDED")],
        "fails": [*ran, ("ended", "FAILED")],
        "skipped": [("registered", "PENDING"), ("ended", "SKIPPED")],
        "cancelled": [("registered", "PENDING"), ("ended", "CANCELLED")],
    }
