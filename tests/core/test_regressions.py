"""What reviewers of the runner have found, once each."""

import asyncio
import threading
from typing import Any

from asgiref.sync import sync_to_async

from async_after import CallbackState, Runner, after_response, exchange_scope
from async_after._core.runner import Dispatcher

from .conftest import (
    DEADLINE,
    MakeRunner,
    ended,
    free,
    loop_exchange,
    responding,
    started,
    thread_exchange,
)

SUCCEEDED, DROPPED, TIMED_OUT = (
    CallbackState.SUCCEEDED,
    CallbackState.DROPPED,
    CallbackState.TIMED_OUT,
)
concurrently = after_response.using(concurrent=True)


async def test_a_timeout_is_kept_though_every_thread_is_held(make_runner: MakeRunner) -> None:
    """A coroutine function whose thread-sensitive call waits behind one that never ends."""
    runner = make_runner(max_threads=1)
    let_go = threading.Event()

    async def uses_a_thread() -> None:
        await sync_to_async(int)()

    with responding(loop_exchange(runner)):
        held = concurrently.using(timeout=0.05)(let_go.wait, DEADLINE)
        behind = concurrently.using(timeout=0.1)(uses_a_thread)
        another = concurrently.using(timeout=0.1)(uses_a_thread)
    for callback in (held, behind, another):
        await ended(callback)
    assert held.state is TIMED_OUT
    let_go.set()
    await runner.drain(DEADLINE)
    await free(runner)


async def test_an_idle_worker_comes_before_a_busy_one(make_runner: MakeRunner) -> None:
    runner = make_runner(max_threads=2)
    let_go, rest = threading.Event(), asyncio.Event()
    busy, resting = threading.Event(), asyncio.Event()

    def blocks() -> None:
        busy.set()
        let_go.wait(DEADLINE)

    async def has_a_worker() -> None:
        await sync_to_async(int)()
        resting.set()
        await rest.wait()

    async def comes_later() -> int:
        return await sync_to_async(int)()

    with responding(loop_exchange(runner)):
        concurrently(blocks)
        concurrently(has_a_worker)
    await started(busy)
    await started(resting)
    with responding(loop_exchange(runner)):
        later = after_response(comes_later)
    await ended(later)
    assert not let_go.is_set()
    assert later.result() == 0
    let_go.set()
    rest.set()
    await runner.drain(DEADLINE)


async def test_a_timeout_at_the_return_of_a_coroutine(
    make_runner: MakeRunner, monkeypatch: Any
) -> None:
    """Whichever comes first, those behind it go on once: no slot too many."""
    runner = make_runner(limit=1)
    returned, given_up = threading.Event(), threading.Event()
    give_up = Dispatcher.give_up

    def slow_give_up(self: Dispatcher, *arguments: Any, **more: Any) -> None:
        returned.wait(DEADLINE)
        give_up(self, *arguments, **more)
        given_up.set()

    monkeypatch.setattr(Dispatcher, "give_up", slow_give_up)

    async def coroutine() -> None:
        await asyncio.sleep(0)

    def returns_it() -> Any:
        threading.Timer(0.02, returned.set).start()
        returned.wait(DEADLINE)
        return coroutine()

    with responding(loop_exchange(runner)):
        first = after_response.using(timeout=0.01)(returns_it)
        behind = after_response(int)
    await started(given_up)
    await ended(first)
    await ended(behind)
    assert first.state in (TIMED_OUT, SUCCEEDED)
    await free(runner)


async def test_the_timeout_of_a_function_and_its_coroutine_is_one(runner: Runner) -> None:
    """The function uses it up: the coroutine has nothing left."""
    waited: list[float] = []

    async def coroutine() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            waited.append(1)
            raise

    def returns_it() -> Any:
        threading.Event().wait(0.2)
        return coroutine()

    seen: list[float | None] = []
    timeout_of = runner.capacity.timeout_of
    runner.capacity.timeout_of = lambda callback: seen.append(timeout_of(callback)) or seen[-1]  # type: ignore[method-assign, func-returns-value]
    with responding(loop_exchange(runner)):
        callback = after_response.using(timeout=1.0)(returns_it)
    await ended(callback)
    assert callback.state is TIMED_OUT
    whole, rest = seen
    assert whole == 1.0
    assert rest is not None
    assert rest <= 0.8


async def test_another_loop_goes_on_after_a_shutdown(runner: Runner) -> None:
    """One that has no lifespan, and serves in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def request() -> Any:
        with responding(loop_exchange(runner)):
            return after_response(int)

    async def end(callback: Any) -> None:
        await ended(callback)

    try:
        for _ in range(2):
            callback = asyncio.run_coroutine_threadsafe(request(), loop).result(DEADLINE)
            asyncio.run_coroutine_threadsafe(end(callback), loop).result(DEADLINE)
            assert callback.state is SUCCEEDED
            async with asyncio.timeout(DEADLINE):
                await runner.aclose()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join, DEADLINE)
        loop.close()


def test_a_shutdown_leaves_a_scope_alone() -> None:
    from async_after import get_runner

    with exchange_scope():
        callback = after_response(int)

        def shut_down() -> None:
            asyncio.run(get_runner().aclose())

        thread = threading.Thread(target=shut_down)
        thread.start()
        thread.join(DEADLINE)
        assert not thread.is_alive(), "it waits for a scope that is merely open"
        assert callback.state is CallbackState.PENDING
    assert callback.result() == 0


async def test_a_stuck_function_holds_no_slot_of_the_next_life(make_runner: MakeRunner) -> None:
    runner = make_runner(limit=1, wait_timeout=0, close_timeout=0.01)
    running, let_go = threading.Event(), threading.Event()

    def stuck() -> None:
        running.set()
        let_go.wait(DEADLINE)

    with responding(thread_exchange(runner)):
        first = after_response(stuck)
    await started(running)
    await runner.aclose()
    assert first.state is DROPPED
    assert runner.statistics().overdue == 1
    with responding(thread_exchange(runner)):
        second = after_response(int)
    await ended(second)
    assert second.state is SUCCEEDED
    let_go.set()
    await free(runner)


def test_a_closed_loop_is_noticed_by_who_waits(make_runner: MakeRunner) -> None:
    runner = make_runner()

    async def leave_behind() -> Any:
        with responding(loop_exchange(runner)):
            return after_response(asyncio.Event().wait)

    loop = asyncio.new_event_loop()
    callback = loop.run_until_complete(leave_behind())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    asyncio.run(runner.drain(DEADLINE))
    assert callback.state is DROPPED


async def test_the_line_does_not_keep_the_dead(make_runner: MakeRunner) -> None:
    runner = make_runner(limit=1)
    let_go = asyncio.Event()
    with responding(loop_exchange(runner)):
        after_response(let_go.wait)
    for _ in range(2000):
        with responding(loop_exchange(runner)):
            callback = after_response(int)
        assert callback.cancel()
    assert len(runner.capacity.limiter._waiting) < 200
    let_go.set()
    await runner.drain(DEADLINE)
    await free(runner)
