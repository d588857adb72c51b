"""The ``timeout`` of callbacks and of their runner; cancellation from outside."""

import asyncio
import gc
import inspect
import sys
import threading
import weakref
from contextvars import Context, ContextVar
from typing import Any

import pytest

from async_after import Callback, CallbackState, Runner, after_response

from ..conftest import (
    DEADLINE,
    MakeRunner,
    ended,
    free,
    gone,
    loop_exchange,
    own_threads,
    records,
    responding,
    started,
    thread_exchange,
)

SOON = 0.02
in_time = after_response.using(timeout=SOON)


async def forever() -> None:
    await asyncio.Event().wait()


async def test_async(runner: Runner, caplog: pytest.LogCaptureFixture) -> None:
    with responding(loop_exchange(runner)):
        late = in_time.using(name="late")(forever)
        following = after_response(int)
    await runner.drain(DEADLINE)
    assert (late.state, following.state) == (CallbackState.TIMED_OUT, CallbackState.SUCCEEDED)
    with pytest.raises(TimeoutError, match=r"late did not end within its timeout of 0\.02 s"):
        late.result()
    assert [record.getMessage() for record in records(caplog)] == [
        "callback late of GET /x (200) timed out after 0.02 s"
    ]


@pytest.mark.parametrize("max_threads", [1, 4])
async def test_sync_that_overruns(make_runner: MakeRunner, max_threads: int) -> None:
    """It is TIMED_OUT, and those behind it go on in another thread."""
    runner = make_runner(limit=1, max_threads=max_threads)
    before = own_threads()
    let_go = threading.Event()
    idents = []

    def overruns() -> str:
        idents.append(threading.get_ident())
        let_go.wait(DEADLINE)
        return "too late"

    with responding(loop_exchange(runner)):
        late = in_time(overruns)
        following = after_response(lambda: idents.append(threading.get_ident()))
    await ended(following)
    assert late.state is CallbackState.TIMED_OUT
    assert following.state is CallbackState.SUCCEEDED
    assert len(set(idents)) == 2
    let_go.set()
    await runner.drain(DEADLINE)
    made = own_threads() - before
    await runner.aclose()
    await gone(made)
    assert late.state is CallbackState.TIMED_OUT
    with pytest.raises(TimeoutError):
        late.result()
    await free(runner)
    assert runner.capacity.pool._overdue == 0


async def test_sync_in_time(runner: Runner) -> None:
    with responding(loop_exchange(runner)):
        callbacks = [after_response.using(timeout=DEADLINE)(int) for _ in range(3)]
    await runner.drain(DEADLINE)
    assert {callback.state for callback in callbacks} == {CallbackState.SUCCEEDED}


async def test_the_runners_own(make_runner: MakeRunner) -> None:
    """A callback that says nothing has the runner's timeout; its own comes first."""
    runner = make_runner(timeout=SOON)
    let_go = threading.Event()
    with responding(loop_exchange(runner)):
        late: list[Callback[Any]] = [
            after_response(forever),
            after_response(let_go.wait, DEADLINE),
        ]
        patient = after_response.using(timeout=DEADLINE)(asyncio.sleep, 2 * SOON)
    await runner.drain(DEADLINE)
    let_go.set()
    assert [callback.state for callback in late] == [CallbackState.TIMED_OUT] * 2
    assert patient.state is CallbackState.SUCCEEDED


async def test_async_that_ends_in_vain(runner: Runner) -> None:
    """What it makes of its cancellation does not count: it was too late."""

    async def stubborn() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return "done after all"
        return "never"

    async def fails() -> None:
        try:
            await forever()
        finally:
            raise ValueError

    with responding(loop_exchange(runner)):
        callbacks: list[Callback[object]] = [in_time(stubborn), in_time(fails)]
    await runner.drain(DEADLINE)
    assert [callback.state for callback in callbacks] == [CallbackState.TIMED_OUT] * 2


def test_async_without_a_loop(runner: Runner) -> None:
    exchange = thread_exchange(runner)
    with responding(exchange):
        late, following = in_time(forever), after_response(int)
    assert exchange.idle_latch().wait_in_thread(DEADLINE)
    assert (late.state, following.state) == (CallbackState.TIMED_OUT, CallbackState.SUCCEEDED)


async def test_overdue_and_then_a_coroutine(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """A plain function that returns its coroutine too late: it is closed, nobody complains."""
    before = own_threads()
    runner = make_runner()
    let_go = threading.Event()
    coroutine = forever()

    def overruns() -> object:
        let_go.wait(DEADLINE)
        return coroutine

    with responding(loop_exchange(runner)):
        late = in_time(overruns)
    await ended(late)
    let_go.set()
    await runner.aclose()
    await gone(own_threads() - before)
    messages = [record.getMessage() for record in records(caplog)]
    was_closed = inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    coroutine.close()
    assert len(messages) == 1, messages
    assert "timed out" in messages[0]
    assert "Exception in callback" not in caplog.text
    assert was_closed, "RuntimeWarning: coroutine was never awaited"


# Cancelled from outside.


async def test_cancelled_before_its_first_step(
    runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio never enters the coroutine of such a task; the callback is accounted for."""
    others = asyncio.all_tasks()
    has_begun = asyncio.Event()

    async def begins() -> None:
        has_begun.set()

    with responding(loop_exchange(runner)):
        cancelled = after_response.using(name="the task")(begins)
        following = after_response(int)
    async with asyncio.timeout(DEADLINE):
        while not (tasks := asyncio.all_tasks() - others):
            await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await runner.drain(DEADLINE)
    assert cancelled.state is CallbackState.DROPPED
    assert following.state is CallbackState.SUCCEEDED
    assert not has_begun.is_set()
    assert "callback the task of GET /x (200) was dropped" in caplog.text


async def test_cancelled_while_it_runs(runner: Runner) -> None:
    running = asyncio.Event()
    task: asyncio.Task[object] | None = None

    async def victim() -> None:
        nonlocal task
        task = asyncio.current_task()
        running.set()
        await forever()

    with responding(loop_exchange(runner)):
        cancelled, following = after_response(victim), after_response(int)
    await started(running)
    assert task is not None
    task.cancel()
    await runner.drain(DEADLINE)
    assert cancelled.state is CallbackState.DROPPED
    assert following.state is CallbackState.SUCCEEDED


async def test_cancelled_with_its_coroutine_not_begun(runner: Runner) -> None:
    """``cancel()`` between a plain function's return and its coroutine's first step."""
    callback: Callback[object] | None = None
    coroutine = forever()

    def returns_one() -> object:
        assert callback is not None
        assert not callback.cancel(), "it runs already"
        return coroutine

    with responding(loop_exchange(runner)):
        callback = after_response(returns_one)
        following = after_response(int)
    await runner.drain(DEADLINE)
    was_closed = inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    coroutine.close()
    assert callback.state is CallbackState.CANCELLED
    assert following.state is CallbackState.SUCCEEDED
    assert was_closed, "RuntimeWarning: coroutine was never awaited"


def test_the_loop_ends_with_callbacks(make_runner: MakeRunner) -> None:
    """asyncio.run() cancels what is left: it is DROPPED, with what stands behind it."""
    runner = make_runner()
    callbacks: list[Callback[object]] = []

    async def main() -> None:
        with responding(loop_exchange(runner)):
            callbacks.extend(after_response(forever) for _ in range(3))
        await asyncio.sleep(0)

    asyncio.run(main())
    asyncio.run(_ask_for_a_dispatcher(runner))
    gc.collect()
    assert [callback.state for callback in callbacks] == [CallbackState.DROPPED] * 3
    assert runner.capacity.limiter.used == 0
    assert not runner.capacity.ledger._exchanges


def test_the_loop_is_closed_without_cancelling(make_runner: MakeRunner) -> None:
    """What a closed loop still held is accounted for when the next loop comes."""
    runner = make_runner()
    callbacks: list[Callback[object]] = []

    async def main() -> None:
        with responding(loop_exchange(runner)):
            callbacks.extend(after_response(forever) for _ in range(2))
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    asyncio.run(_ask_for_a_dispatcher(runner))
    gc.collect()  # asyncio complains of the task here, and not in some other test
    assert [callback.state for callback in callbacks] == [CallbackState.DROPPED] * 2
    assert runner.capacity.limiter.used == 0


async def _ask_for_a_dispatcher(runner: Runner) -> None:
    runner.dispatcher(asyncio.get_running_loop())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
async def test_eager_tasks(runner: Runner) -> None:
    """With an eager task factory a callback still does not run inside the request."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 -- not in 3.11
    ran = asyncio.Event()

    async def callback() -> None:
        ran.set()

    with responding(loop_exchange(runner)):
        after_response(callback)
    assert not ran.is_set()
    await started(ran)
    await runner.drain(DEADLINE)


@pytest.mark.parametrize("timeout", [None, 300.0])
async def test_no_timer_keeps_the_exchange(runner: Runner, timeout: float | None) -> None:
    """A loop keeps a cancelled timer and its context until it would have been due."""
    held: ContextVar[object] = ContextVar("held")
    thing = {"a thing that"}
    alive = weakref.ref(thing)
    callbacks = []

    async def work() -> None:
        await asyncio.sleep(0)

    def respond(thing: object) -> None:
        held.set(thing)
        with responding(loop_exchange(runner)):
            callbacks.append(after_response.using(timeout=timeout)(work))

    loop = asyncio.get_running_loop()
    earlier = loop.call_later(100, int)  # the loop drops cancelled timers when they come first
    loop.call_soon(respond, thing, context=Context())
    del thing
    await asyncio.sleep(0)
    await runner.drain(DEADLINE)
    await asyncio.sleep(0)
    gc.collect()
    assert [callback.state for callback in callbacks] == [CallbackState.SUCCEEDED]
    assert alive() is None
    earlier.cancel()
