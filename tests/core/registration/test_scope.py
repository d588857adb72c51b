"""``exchange_scope``: an exchange for commands and workers."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
from asgiref.sync import sync_to_async

from async_after import (
    Callback,
    CallbackState,
    Completion,
    NoActiveExchange,
    after_response,
    exchange_scope,
    get_runner,
)
from async_after._core.exchange import current_exchange

from ..conftest import DEADLINE, records, started


@pytest.fixture(autouse=True)
def close_the_default_runner() -> Iterator[None]:
    yield
    get_runner().capacity.pool.close()


async def thread() -> threading.Thread:
    await asyncio.sleep(0)
    return threading.current_thread()


def test_sync() -> None:
    """Before the block is left, in this thread, in order; coroutine functions too."""
    order: list[str] = []

    async def coroutine() -> None:
        await asyncio.sleep(0)
        order.append("async")

    with exchange_scope() as exchange:
        assert current_exchange.get() is exchange
        after_response(order.append, "first")
        after_response(coroutine)
        here = after_response(threading.current_thread)
        after_response.using(concurrent=True)(order.append, "concurrent")
        order.append("block")
    assert order[0] == "block"
    assert [name for name in order if name != "concurrent"] == ["block", "first", "async"]
    assert "concurrent" in order
    assert here.result() is threading.current_thread()
    assert current_exchange.get() is None
    outcome = exchange.outcome
    assert outcome is not None
    assert (outcome.completion, outcome.status, outcome.is_success) == (
        Completion.SENT,
        None,
        True,
    )
    with pytest.raises(NoActiveExchange):
        after_response(int)


async def test_async() -> None:
    order: list[str] = []
    async with exchange_scope() as exchange:
        after_response(order.append, "plain")
        on_loop = after_response(thread)
        in_thread = after_response(threading.current_thread)
        order.append("block")
    assert order == ["block", "plain"]
    assert on_loop.result() is threading.current_thread()
    assert in_thread.result() is not threading.current_thread()
    assert exchange.outcome is not None
    assert exchange.outcome.is_success
    assert current_exchange.get() is None


async def test_sync_inside_a_running_loop() -> None:
    """A second loop cannot run here: coroutine functions get one in another thread."""
    with exchange_scope():
        plain, coroutine = after_response(threading.current_thread), after_response(thread)
    assert plain.result() is threading.current_thread()
    assert coroutine.result() is not threading.current_thread()
    assert not coroutine.result().is_alive()


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_the_exception_goes_on(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, exchange_scope() as exchange:  # noqa: PT012
        always = after_response(int)
        on_error = after_response.using(when="error", takes_outcome=True)(lambda o: o)
        skipped = after_response.using(when="success")(int)
        raise error
    assert caught.value is error
    outcome = on_error.result()
    assert outcome is exchange.outcome
    assert (outcome.completion, outcome.error) == (Completion.FAILED, error)
    assert (always.state, skipped.state) == (CallbackState.SUCCEEDED, CallbackState.SKIPPED)


async def test_the_exception_goes_on_async() -> None:
    with pytest.raises(ValueError, match="x"):  # noqa: PT012
        async with exchange_scope() as exchange:
            callback = after_response(thread)
            raise ValueError("x")
    assert callback.state is CallbackState.SUCCEEDED
    assert exchange.outcome is not None
    assert isinstance(exchange.outcome.error, ValueError)


def test_nested() -> None:
    """Each is an exchange of its own, and the outer one is the current one again."""
    order: list[str] = []
    with exchange_scope() as outer:
        after_response(order.append, "outer")
        with exchange_scope() as inner:
            after_response(order.append, "inner")
            assert current_exchange.get() is inner
        assert order == ["inner"]
        assert current_exchange.get() is outer
        after_response(order.append, "outer again")
    assert order == ["inner", "outer", "outer again"]


def test_one_object_entered_twice() -> None:
    scope, order = exchange_scope(), list[str]()
    for _ in range(2):
        with scope:
            after_response(order.append, "outer")
            with scope:
                after_response(order.append, "inner")
    assert order == ["inner", "outer"] * 2


def test_a_failing_callback_does_not_stop_the_program(caplog: pytest.LogCaptureFixture) -> None:
    with exchange_scope():
        failing = after_response.using(name="failing")(int, "x")
        following = after_response(int)
    assert (failing.state, following.state) == (CallbackState.FAILED, CallbackState.SUCCEEDED)
    assert [record.getMessage() for record in records(caplog)] == [
        "callback failing of exchange_scope() failed"
    ]


@pytest.mark.parametrize("number", [0, 3])
def test_callbacks_register_more(number: int) -> None:
    order: list[int] = []

    def more(left: int) -> None:
        order.append(left)
        if left:
            after_response.using(concurrent=left % 2 == 0)(more, left - 1)

    with exchange_scope():
        after_response(more, number)
        after_response(order.append, 99)
    assert sorted(order) == [*range(number + 1), 99]


def test_late() -> None:
    """Registered after the block was left: the runner runs it."""
    ran = threading.Event()
    with exchange_scope() as exchange:
        pass
    token = current_exchange.set(exchange)
    try:
        after_response(ran.set)
    finally:
        current_exchange.reset(token)
    assert ran.wait(DEADLINE)


async def test_late_on_a_loop() -> None:
    async with exchange_scope() as exchange:
        pass
    token = current_exchange.set(exchange)
    try:
        late = after_response(thread)
    finally:
        current_exchange.reset(token)
    assert await late.wait(DEADLINE) is threading.current_thread()


async def test_cancelling_the_block_does_not_cancel_callbacks() -> None:
    running, let_go = asyncio.Event(), asyncio.Event()
    callbacks: list[Callback[None]] = []

    async def work() -> None:
        running.set()
        await let_go.wait()

    async def block() -> None:
        async with exchange_scope():
            callbacks.extend(after_response(work) for _ in range(2))

    task = asyncio.ensure_future(block())
    await started(running)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    let_go.set()
    for callback in callbacks:
        await callback.wait(DEADLINE)
    assert [callback.state for callback in callbacks] == [CallbackState.SUCCEEDED] * 2


def test_thread_sensitive_calls_come_back_to_this_thread() -> None:
    """So that they see the transaction and the connections of the command."""

    async def calls() -> threading.Thread:
        return await sync_to_async(threading.current_thread, thread_sensitive=True)()

    with exchange_scope():
        callback = after_response(calls)
    assert callback.result() is threading.current_thread()


async def test_plain_functions_where_thread_sensitive_calls_go() -> None:
    where = await sync_to_async(threading.current_thread, thread_sensitive=True)()
    async with exchange_scope():
        callback = after_response(threading.current_thread)
    assert callback.result() is where


async def test_a_concurrent_one_may_wait_for_a_sequential_one() -> None:
    """It holds nobody up (or is told at once that its waiting could never end)."""

    async def waits() -> int:
        return await callbacks[1].wait()

    async def block() -> None:
        async with exchange_scope():
            callbacks.append(after_response.using(concurrent=True)(waits))
            callbacks.append(after_response(int))

    callbacks: list[Callback[int]] = []
    task = asyncio.ensure_future(block())
    done, _ = await asyncio.wait([task], timeout=2.0)
    if not done:
        callbacks[0].cancel()
    await task
    assert done, "deadlock"
    assert callbacks[1].result() == 0


async def waits_for_its_own() -> int:
    return await after_response.using(concurrent=True)(int, "5").wait(DEADLINE)


async def test_a_sequential_one_may_wait_for_a_concurrent_one_that_it_registers() -> None:
    """Also where it has a loop of its own: inside a running one, and behind a plain function."""

    def in_thread() -> Callback[int]:
        with exchange_scope():
            return after_response(lambda: waits_for_its_own())

    with exchange_scope():
        inside_a_loop = after_response(waits_for_its_own)
    async with exchange_scope():
        awaited = after_response(waits_for_its_own)
    returned = await asyncio.to_thread(in_thread)
    assert [each.result() for each in (inside_a_loop, awaited, returned)] == [5, 5, 5]


@pytest.mark.parametrize("first", ["plain", "async"])
@pytest.mark.parametrize("last", ["plain", "async"])
async def test_a_concurrent_one_may_wait_for_one_behind_who_registers_it(
    first: str, last: str
) -> None:
    """However the block is left: inside a running loop with ``with`` too."""

    def register() -> None:
        after_response.using(concurrent=True)(waits)

    async def aregister() -> None:
        register()

    async def waits() -> None:
        order.append(await callbacks[-1].wait(DEADLINE))

    def block() -> None:
        after_response(register if first == "plain" else aregister)
        callbacks.append(after_response(int) if last == "plain" else after_response(zero))

    def enter() -> None:
        with exchange_scope():
            block()

    order: list[int] = []
    callbacks: list[Callback[int]] = []
    enter()
    async with exchange_scope():
        block()
    await asyncio.to_thread(enter)
    assert order == [0, 0, 0]


async def zero() -> int:
    return 0
