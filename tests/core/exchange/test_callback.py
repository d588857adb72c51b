"""The handle: its states, its results, waiting for it and cancelling it."""

import asyncio
import functools
import gc
import logging
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from async_after import (
    Callback,
    CallbackNotRun,
    CallbackState,
    Runner,
    after_response,
    exchange_scope,
)
from async_after._core.exchange import Exchange

from ..conftest import (
    DEADLINE,
    ended,
    entered,
    finish,
    gone,
    loop_exchange,
    own_threads,
    responding,
    started,
    thread_exchange,
)

concurrently = after_response.using(concurrent=True)
held: ContextVar[object] = ContextVar("held", default=None)


async def forever() -> None:
    await asyncio.Event().wait()


async def answer() -> int:
    return 42


def test_not_awaitable(runner: Runner) -> None:
    """``await after_response(f)`` is a loud mistake."""
    with entered(thread_exchange(runner)):
        assert not hasattr(after_response(int), "__await__")


async def test_states(runner: Runner) -> None:
    exchange = loop_exchange(runner)
    running, let_go = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        running.set()
        await let_go.wait()
        return "result"

    with entered(exchange):
        callback = after_response.using(name="work")(work)
    for state in (CallbackState.PENDING, CallbackState.RUNNING):
        assert callback.state is state
        assert callback.done() is False
        for method in (callback.result, callback.exception):
            with pytest.raises(asyncio.InvalidStateError, match=f"work is still {state.value}"):
                method()
        assert (callback.outcome is None) is (state is CallbackState.PENDING)
        if state is CallbackState.PENDING:
            finish(exchange)
            await started(running)
    let_go.set()
    assert await callback.wait(DEADLINE) == "result"
    assert callback.done() is True
    assert callback.result() == "result"
    assert callback.exception() is None
    assert callback.outcome is exchange.outcome
    assert callback.outcome is not None


async def test_failed(runner: Runner) -> None:
    with responding(loop_exchange(runner)):
        callback = after_response(int, "x")
    with pytest.raises(ValueError, match="invalid literal") as caught:
        await callback.wait(DEADLINE)
    assert callback.state is CallbackState.FAILED
    assert callback.exception() is caught.value
    with pytest.raises(ValueError, match="invalid literal"):
        callback.result()


@pytest.mark.parametrize("state", ["CANCELLED", "SKIPPED", "DROPPED"])
async def test_without_a_result(runner: Runner, state: str) -> None:
    exchange = loop_exchange(runner)
    if state == "DROPPED":
        await runner.aclose()
    with entered(exchange):
        registrar = after_response.using(name="n")
        if state == "SKIPPED":
            registrar = registrar.using(when="error")
        callback = registrar(int)
    if state == "CANCELLED":
        assert callback.cancel()
    finish(exchange)
    for wait in (False, True):
        with pytest.raises(CallbackNotRun) as caught:
            await callback.wait(DEADLINE) if wait else callback.result()
        assert caught.value.state is callback.state is CallbackState[state]
        assert caught.value.name == "n"
        why = ": the runner has shut down" if state == "DROPPED" else ""
        assert str(caught.value) == f"callback n has no result: it was {state.lower()}{why}"
    assert isinstance(callback.exception(), CallbackNotRun)


async def test_timed_out(runner: Runner) -> None:
    with responding(loop_exchange(runner)):
        callback = after_response.using(timeout=0.01, name="n")(forever)
    with pytest.raises(TimeoutError, match=r"n did not end within its timeout of 0.01 s"):
        await callback.wait(DEADLINE)
    assert isinstance(callback.exception(), TimeoutError)


def test_discreet(runner: Runner) -> None:
    exchange = thread_exchange(runner)
    with responding(exchange):
        callback = after_response.using(name="n", key="s3cret")(str, "s3cret")
        assert repr(callback) == "<Callback n PENDING>"
    assert exchange.idle_latch().wait_in_thread(DEADLINE)
    assert repr(callback) == "<Callback n SUCCEEDED>"
    assert "s3cret" not in callback.describe()


# cancel()


async def test_cancel_pending(runner: Runner) -> None:
    ran = threading.Event()
    with responding(loop_exchange(runner)):
        for registrar in (after_response, concurrently):
            callback = registrar(ran.set)
            assert callback.cancel() is True
            assert callback.state is CallbackState.CANCELLED
            assert callback.cancel() is False
    await runner.drain(DEADLINE)
    assert not ran.is_set()


async def test_cancel_running_async(runner: Runner) -> None:
    running = asyncio.Event()

    async def work() -> None:
        running.set()
        await forever()

    with responding(loop_exchange(runner)):
        callback, following = after_response(work), after_response(int)
    await started(running)
    assert await asyncio.to_thread(callback.cancel) is False
    with pytest.raises(CallbackNotRun):
        await callback.wait(DEADLINE)
    assert callback.state is CallbackState.CANCELLED
    assert await following.wait(DEADLINE) == 0


async def test_cancel_running_async_that_declines(runner: Runner) -> None:
    running = asyncio.Event()

    async def declines() -> str:
        running.set()
        try:
            await forever()
        except asyncio.CancelledError:
            pass
        return "result"

    with responding(loop_exchange(runner)):
        callback = after_response(declines)
    await started(running)
    assert callback.cancel() is False
    assert await callback.wait(DEADLINE) == "result"
    assert callback.cancel() is False
    assert callback.state is CallbackState.SUCCEEDED


async def test_cancel_running_sync(runner: Runner) -> None:
    running, let_go = threading.Event(), threading.Event()

    def work() -> str:
        running.set()
        let_go.wait(DEADLINE)
        return "result"

    with responding(loop_exchange(runner)):
        callback = after_response(work)
    await started(running)
    assert callback.cancel() is False
    let_go.set()
    assert await callback.wait(DEADLINE) == "result"


# key=


@pytest.mark.parametrize("concurrent", [False, True])
async def test_key(runner: Runner, concurrent: bool) -> None:
    ran: list[str] = []
    keyed = after_response.using(key="k", concurrent=concurrent)
    with responding(loop_exchange(runner)):
        first = keyed(ran.append, "first")
        after_response(ran.append, "other")
        last = keyed(ran.append, "last")
    await runner.drain(DEADLINE)
    assert sorted(ran) == ["last", "other"]
    assert first.state is CallbackState.CANCELLED
    assert last.state is CallbackState.SUCCEEDED
    if not concurrent:
        assert ran == ["other", "last"]


# wait()


async def test_giving_up_does_not_touch_it(runner: Runner) -> None:
    let_go = asyncio.Event()

    async def work() -> str:
        await let_go.wait()
        return "result"

    with responding(loop_exchange(runner)):
        callback = after_response.using(name="n")(work)
    with pytest.raises(TimeoutError, match=r"callback n was still running after 0 s"):
        await callback.wait(0)
    waiting = asyncio.ensure_future(callback.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert callback.state is CallbackState.RUNNING
    let_go.set()
    assert await callback.wait(DEADLINE) == "result"


async def test_waiting_from_several_loops(runner: Runner) -> None:
    let_go = asyncio.Event()
    waiting = threading.Barrier(3)

    async def work() -> int:
        await let_go.wait()
        return 42

    with responding(loop_exchange(runner)):
        callback = after_response(work)

    def in_thread() -> int:
        async def wait() -> int:
            waiting.wait(DEADLINE)
            return await callback.wait(DEADLINE)

        return asyncio.run(wait())

    others = [asyncio.ensure_future(asyncio.to_thread(in_thread)) for _ in range(2)]
    await asyncio.to_thread(waiting.wait, DEADLINE)
    let_go.set()
    assert await asyncio.gather(*others, callback.wait(DEADLINE)) == [42, 42, 42]


async def test_a_waiter_whose_loop_is_gone(runner: Runner) -> None:
    """It harms neither the callback nor the other waiters."""
    let_go = asyncio.Event()
    with responding(loop_exchange(runner)):
        callback, following = after_response(let_go.wait), after_response(int)

    def in_thread() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(callback.wait())
        loop.run_until_complete(asyncio.sleep(0, loop))
        loop.close()
        abandoned.append(task)

    abandoned: list[asyncio.Task[Any]] = []
    await asyncio.to_thread(in_thread)
    let_go.set()
    assert await following.wait(DEADLINE) == 0
    # asyncio would complain of it when it is collected.
    steps: Any = abandoned[0].get_coro()
    steps.close()
    quiet: Any = abandoned[0]
    quiet._log_destroy_pending = False


# Waiting that could never end.


async def test_never_before_its_response(runner: Runner) -> None:
    exchange = loop_exchange(runner)
    with entered(exchange):
        callback = after_response.using(name="n")(answer)
        with pytest.raises(RuntimeError, match="callback n before its response is sent"):
            await callback.wait()
        inner = Exchange(exchange.host, parent=exchange)
        with entered(inner), pytest.raises(RuntimeError, match="callback n before its response"):
            await callback.wait()
    finish(exchange)
    assert await callback.wait(DEADLINE) == 42


async def test_never_before_the_end_of_a_scope() -> None:
    async with exchange_scope():
        callback = after_response(answer)
        with pytest.raises(RuntimeError, match="before its response"):
            await callback.wait()
    assert callback.result() == 42


async def waits_for(get: Callable[[], Callback[Any]]) -> Any:
    return await get().wait(DEADLINE)


async def refused(callback: Callback[Any]) -> bool:
    """Whether its waiting was refused at once."""
    await ended(callback)
    error = callback.exception()
    return isinstance(error, RuntimeError) and "would never end" in str(error)


async def test_never_for_itself(runner: Runner) -> None:
    waiters: list[Callback[Any]] = []
    with responding(loop_exchange(runner)):
        for registrar in (after_response, concurrently):
            own: list[Callback[Any]] = []
            own.append(registrar(waits_for, functools.partial(list.__getitem__, own, 0)))
            waiters.append(own[0])
    assert [await refused(waiter) for waiter in waiters] == [True, True]


async def test_never_for_a_later_one(runner: Runner) -> None:
    later: Callback[int]
    with responding(loop_exchange(runner)):
        waiter = after_response(waits_for, lambda: later)
        later = after_response(answer)
    assert await refused(waiter)
    assert await later.wait(DEADLINE) == 42


async def test_never_for_a_nested_one(runner: Runner) -> None:
    with responding(loop_exchange(runner)):
        waiter = after_response(waits_for, lambda: after_response(answer))
    assert await refused(waiter)
    await runner.drain(DEADLINE)


async def test_allowed(runner: Runner) -> None:
    """Where one of the two is concurrent, or they belong to two exchanges."""
    later: Callback[int]
    other: Callback[int]
    with responding(loop_exchange(runner)):
        earlier = after_response(answer)
        waiters = [
            concurrently(waits_for, lambda: later),
            after_response(waits_for, lambda: earlier),
            after_response(waits_for, lambda: other),
            after_response(waits_for, lambda: concurrently(answer)),
        ]
        later = after_response(answer)
    with responding(loop_exchange(runner)):
        other = after_response(answer)
    assert [await waiter.wait(DEADLINE) for waiter in waiters] == [42] * 4


async def test_a_task_that_outlives_its_callback_may_wait(runner: Runner) -> None:
    left_behind: list[asyncio.Task[int]] = []

    async def leaves_a_task() -> None:
        left_behind.append(asyncio.ensure_future(wait_later()))

    async def wait_later() -> int:
        await ended(first)
        return await later.wait(DEADLINE)

    with responding(loop_exchange(runner)):
        first, later = after_response(leaves_a_task), after_response(answer)
    await ended(later)
    assert await left_behind[0] == 42


# Nothing is kept.


class Thing:
    """Something that can be watched for being kept."""


async def work_async(thing: Thing) -> None:
    await asyncio.sleep(0)


def work(thing: Thing) -> None:
    pass


def fail(thing: Thing) -> None:
    raise ValueError


@pytest.mark.parametrize("how", ["runs", "runs async", "fails", "is cancelled", "is skipped"])
async def test_arguments_and_context_are_freed(
    runner: Runner, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Though handle and exchange live on (promise 15)."""
    caplog.set_level(logging.CRITICAL + 1, "async_after")  # pytest keeps log records
    before = own_threads()
    function = {"runs async": work_async, "fails": fail}.get(how, work)
    registrar = after_response.using(when="error" if how == "is skipped" else "always", key=1)

    def register() -> tuple[Callback[Any], list[weakref.ref[Thing]]]:
        thing, in_context = Thing(), Thing()
        token = held.set(in_context)
        try:
            callback = registrar(function, thing)
        finally:
            held.reset(token)
        return callback, [weakref.ref(thing), weakref.ref(in_context)]

    with responding(loop_exchange(runner)) as exchange:
        callback, alive = register()
        if how == "is cancelled":
            assert callback.cancel()
    await runner.drain(DEADLINE)
    assert callback.done()
    if how == "fails":
        # The traceback of its exception holds the frames, as it always does.
        del callback
    # The worker still has to return from what has just ended.
    runner.capacity.pool.close()
    await gone(own_threads() - before)
    gc.collect()
    assert [reference() for reference in alive] == [None, None]
    assert exchange.outcome is not None
