"""Consecutive coroutine functions share a task: what one does must not reach the next."""

import asyncio
import gc
import threading
import time
import weakref
from typing import Any

import pytest

from async_after import Callback, CallbackState, Runner, after_response

from ..conftest import DEADLINE, MakeRunner, free, gone, loop_exchange, own_threads, responding

SUCCEEDED, DROPPED = CallbackState.SUCCEEDED, CallbackState.DROPPED


async def suspends() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_cancellation_that_comes_too_late(runner: Runner) -> None:
    """It was meant for the one that has ended meanwhile."""

    async def cancels_itself_and_ends() -> None:
        assert not own[0].cancel()

    own: list[Callback[None]] = []
    with responding(loop_exchange(runner)):
        own.append(after_response(cancels_itself_and_ends))
        following = after_response(suspends)
    await runner.drain(DEADLINE)
    assert [own[0].state, following.state] == [SUCCEEDED, SUCCEEDED]


async def test_a_cancelled_one_and_the_next(runner: Runner) -> None:
    running = asyncio.Event()

    async def declines() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await suspends()

    with responding(loop_exchange(runner)):
        cancelled = after_response(declines)
        following = [after_response(suspends) for _ in range(3)]
    async with asyncio.timeout(DEADLINE):
        await running.wait()
    cancelled.cancel()
    await runner.drain(DEADLINE)
    assert {callback.state for callback in [cancelled, *following]} == {SUCCEEDED}


async def test_asyncio_timeout_in_each(runner: Runner) -> None:
    """``asyncio.timeout`` cancels its task, and counts how often that was done."""

    async def gives_up() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    with responding(loop_exchange(runner)):
        callbacks = [after_response(gives_up) for _ in range(3)]
        last = after_response(suspends)
    await runner.drain(DEADLINE)
    assert [type(callback.exception()) for callback in callbacks] == [TimeoutError] * 3
    assert last.state is SUCCEEDED


async def test_the_loop_gets_its_turn(runner: Runner) -> None:
    """Many that never suspend do not keep the loop from everything else."""
    turns, seen = 0, []

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def never_suspends() -> None:
        time.sleep(0.003)  # noqa: ASYNC251 -- what such a callback should not do
        seen.append(turns)

    task = asyncio.ensure_future(others())
    with responding(loop_exchange(runner)):
        for _ in range(5):
            after_response(never_suspends)
    await runner.drain(DEADLINE)
    task.cancel()
    assert len(set(seen)) > 1, "all in one step of the loop"


@pytest.mark.parametrize("function", [suspends, int], ids=["async", "sync"])
async def test_a_timer_keeps_nothing(runner: Runner, function: Any) -> None:
    """The deadline of a callback that has ended goes with it."""
    before = own_threads()
    with responding(loop_exchange(runner)):
        alive = weakref.ref(after_response.using(timeout=3600)(function))
    await runner.drain(DEADLINE)
    await runner.aclose()
    await gone(own_threads() - before)
    gc.collect()
    assert alive() is None


def test_a_closed_loop_closes_the_coroutine(make_runner: MakeRunner) -> None:
    runner = make_runner()
    has_left: list[int] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            has_left.append(1)

    async def main() -> None:
        with responding(loop_exchange(runner)):
            callbacks.append(after_response(waits))
        await asyncio.sleep(0)

    callbacks: list[Callback[Any]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    asyncio.run(_new_life(runner))
    assert has_left == [1]
    assert callbacks[0].state is DROPPED
    gc.collect()  # asyncio complains of the task here, and not in some other test


def test_on_its_way_to_a_loop_that_closes(make_runner: MakeRunner) -> None:
    """Handed over by a thread, to a loop that never comes to it: accounted for all the same."""
    before = own_threads()
    runner = make_runner()
    let_go = threading.Event()
    callbacks: list[Callback[Any]] = []

    async def main() -> None:
        with responding(loop_exchange(runner)):
            callbacks.append(after_response(let_go.wait, DEADLINE))
            callbacks.extend(after_response(suspends) for _ in range(2))

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    let_go.set()
    runner.capacity.pool.close()
    asyncio.run(gone(own_threads() - before))
    loop.close()
    asyncio.run(_new_life(runner))
    assert [callback.state for callback in callbacks] == [SUCCEEDED, DROPPED, DROPPED]


async def _new_life(runner: Runner) -> None:
    runner.dispatcher(asyncio.get_running_loop())
    await free(runner)
