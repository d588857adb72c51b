"""``capture_after_response(execute=True)``, without any framework."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from async_after import (
    Callback,
    CallbackState,
    Completion,
    Delivery,
    Outcome,
    Runner,
    after_response,
    exchange_scope,
    get_runner,
)
from async_after._core.registration import test_hook
from async_after.testing import CapturedCallback, capture_after_response

from ..core.conftest import DEADLINE, entered, finish, loop_exchange, own_threads, thread_exchange
from ..core.delivery.test_delivery import connected

capturing_and_running = pytest.mark.parametrize("mode", ["with", "async with"])


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No state stays behind, and no callback is lost or left pending."""
    before = get_runner().statistics().pending
    yield
    assert test_hook.interceptors == ()
    assert get_runner().statistics().pending == before


async def execute(mode: str, block: Callable[[], None]) -> list[CapturedCallback]:
    """Run ``block`` inside a capture that executes, left in either way."""
    if mode == "async with":
        async with capture_after_response(execute=True) as captured:
            block()
    else:

        def sync() -> list[CapturedCallback]:
            with capture_after_response(execute=True) as captured:
                block()
            return captured

        captured = await asyncio.to_thread(sync)
    return captured


def fail(message: str = "no", kind: type[BaseException] = ValueError) -> None:
    raise kind(message)


@capturing_and_running
async def test_executed_in_order_of_registration(mode: str) -> None:
    """Over several exchanges, plain and coroutine functions, with what they register."""
    order: list[str] = []

    async def later(name: str) -> None:
        await asyncio.sleep(0)
        order.append(name)

    def more() -> None:
        order.append("more")
        after_response(later, "registered by more")

    def block() -> None:
        for name in ("first", "second"):
            with exchange_scope():
                after_response(later, f"{name} async")
                after_response(more)
                after_response(order.append, f"{name} plain")
        assert order == []

    captured = await execute(mode, block)
    assert order == [
        *("first async", "more", "first plain", "second async", "more", "second plain"),
        *["registered by more"] * 2,
    ]
    assert len(captured) == 8
    assert {each.callback.state for each in captured} == {CallbackState.SUCCEEDED}


def test_plain_functions_run_in_the_thread_of_the_block() -> None:
    with capture_after_response(execute=True) as captured, exchange_scope():
        after_response(threading.get_ident)
        after_response(asyncio.sleep, 0)
        after_response.using(concurrent=True)(threading.get_ident)
    assert captured[0].callback.result() == threading.get_ident()
    assert captured[2].callback.result() == threading.get_ident()


async def test_coroutine_functions_run_on_the_loop_of_the_test() -> None:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async with capture_after_response(execute=True) as captured, exchange_scope():
        after_response(loop)
        after_response.using(lane="background")(loop)
    assert [each.callback.result() for each in captured] == [asyncio.get_running_loop()] * 2


async def test_with_in_a_coroutine_runs_them_too() -> None:
    """The loop stands still meanwhile: coroutine functions have another one."""

    async def number() -> int:
        await asyncio.sleep(0)
        return 1

    with capture_after_response(execute=True) as captured:
        async with exchange_scope():
            after_response(threading.get_ident)
            after_response(number)
    assert [each.callback.result() for each in captured] == [threading.get_ident(), 1]


@capturing_and_running
async def test_what_a_plain_function_returns_is_awaited(mode: str) -> None:
    async def number() -> int:
        await asyncio.sleep(0)
        return 1

    def block() -> None:
        with exchange_scope():
            after_response(lambda: number())

    captured = await execute(mode, block)
    assert captured[0].callback.result() == 1


@capturing_and_running
async def test_when_and_takes_outcome_are_honoured(mode: str) -> None:
    def block() -> None:
        with exchange_scope():
            after_response.using(takes_outcome=True, when="success")(lambda o: o)
            after_response.using(when="error")(fail)
            after_response.using(when=lambda outcome: outcome.status == 7)(fail)
            after_response.using(when="acknowledged")(fail)
        with pytest.raises(LookupError), exchange_scope():  # noqa: PT012
            after_response.using(takes_outcome=True, when="error")(lambda o: o)
            raise LookupError

    captured = await execute(mode, block)
    states = [each.callback.state for each in captured]
    assert states == [
        CallbackState.SUCCEEDED,
        *[CallbackState.SKIPPED] * 3,
        CallbackState.SUCCEEDED,
    ]
    sent, failed = captured[0].callback.result(), captured[4].callback.result()
    assert isinstance(sent, Outcome)
    assert (sent.completion, failed.completion) == (Completion.SENT, Completion.FAILED)


@capturing_and_running
async def test_concurrent_ones_may_wait_for_each_other(mode: str) -> None:
    async def child() -> str:
        return "child"

    async def waits(callbacks: list[Callback[Any]]) -> str:
        new = after_response.using(concurrent=True)(child)
        return str(await callbacks[1].wait(DEADLINE)) + await new.wait(DEADLINE)

    callbacks: list[Callback[Any]] = []

    def block() -> None:
        with exchange_scope():
            callbacks.append(after_response.using(concurrent=True)(waits, callbacks))
            callbacks.append(after_response(str, "plain "))

    await execute(mode, block)
    assert callbacks[0].result() == "plain child"


@capturing_and_running
async def test_a_coroutine_function_may_wait_for_a_concurrent_one(mode: str) -> None:
    async def parent() -> int:
        return await after_response.using(concurrent=True)(int, "5").wait(DEADLINE)

    def block() -> None:
        with exchange_scope():
            after_response(parent)

    captured = await execute(mode, block)
    assert captured[0].callback.result() == 5


async def test_the_same_when_a_with_ends_in_the_coroutine() -> None:
    async def parent() -> int:
        return await after_response.using(concurrent=True)(int, "5").wait(DEADLINE)

    with capture_after_response(execute=True) as captured, exchange_scope():
        after_response(parent)
    assert captured[0].callback.result() == 5


@capturing_and_running
async def test_late_where_the_dispatcher_is_shut(mode: str) -> None:
    """The test runs it all the same, and leaves no thread that keeps time."""
    runner = Runner()
    finished = [loop_exchange(runner), thread_exchange(runner)]
    for exchange in finished:
        with entered(exchange):
            after_response(int)
        finish(exchange)
    await runner.aclose()
    before = own_threads()

    def block() -> None:
        for exchange in finished:
            with entered(exchange):
                after_response(int)
                after_response(asyncio.sleep, 0)
                after_response.using(concurrent=True)(int)

    captured = await execute(mode, block)
    assert {each.callback.state for each in captured} == {CallbackState.SUCCEEDED}
    assert own_threads() <= before


@capturing_and_running
async def test_acknowledged_ones_wait_for_the_delivery(runner: Runner, mode: str) -> None:
    """Those behind wait with them, and what is not acknowledged in time is SKIPPED."""
    seen: list[object] = []
    handed, flushed, acknowledged = Delivery.HANDED, Delivery.FLUSHED, Delivery.ACKNOWLEDGED

    def block() -> None:
        for timeout, *levels in (DEADLINE, handed, flushed, acknowledged), (0.02, flushed):
            exchange = connected(runner.thread_dispatcher(), *map(Delivery, levels))
            waiting = after_response.using(when="acknowledged", delivery_timeout=timeout)
            with entered(exchange):
                waiting.using(takes_outcome=True)(lambda outcome: seen.append(outcome.delivery))
                after_response(seen.append, "behind")
            finish(exchange)

    captured = await execute(mode, block)
    assert seen == [acknowledged, "behind", "behind"]
    assert captured[2].callback.state is CallbackState.SKIPPED


# Errors.


@capturing_and_running
async def test_one_error_is_raised_as_it_is(mode: str) -> None:
    ran: list[int] = []

    def block() -> None:
        with exchange_scope():
            after_response.using(name="failing")(fail, "the reason")
            after_response(ran.append, 1)

    with pytest.raises(ValueError, match="the reason") as caught:
        await execute(mode, block)
    assert ran == [1], "the others run all the same"
    assert caught.value.__notes__ == ["In callback failing of exchange_scope()."]


@capturing_and_running
async def test_several_errors_are_a_group(mode: str) -> None:
    async def too_long() -> None:
        await asyncio.sleep(DEADLINE)

    def block() -> None:
        with exchange_scope():
            after_response(fail, "one")
            after_response.using(timeout=0.01)(too_long)
            after_response(fail, "two", LookupError)

    with pytest.raises(ExceptionGroup) as caught:
        await execute(mode, block)
    assert [type(error) for error in caught.value.exceptions] == [
        ValueError,
        TimeoutError,
        LookupError,
    ]


def test_what_is_no_exception_is_raised_too() -> None:
    with pytest.raises(SystemExit), capture_after_response(execute=True), exchange_scope():
        after_response(fail, "3", SystemExit)
    with (  # noqa: PT012
        pytest.raises(BaseExceptionGroup),
        capture_after_response(execute=True),
        exchange_scope(),
    ):
        after_response(fail, "3", SystemExit)
        after_response(fail)


@capturing_and_running
async def test_the_error_of_the_block_wins(mode: str) -> None:
    ran: list[int] = []
    callbacks: list[Callback[Any]] = []

    def block() -> None:
        with exchange_scope():
            callbacks.append(after_response(ran.append, 1))
            callbacks.append(after_response(fail))
        raise LookupError("of the block")

    with pytest.raises(LookupError, match="of the block"):
        await execute(mode, block)
    assert ran == []
    assert [callback.state for callback in callbacks] == [CallbackState.SKIPPED] * 2


def test_ctrl_c_in_a_callback_ends_the_block() -> None:
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        capture_after_response(execute=True) as captured,
        exchange_scope(),
    ):
        after_response(fail, "", KeyboardInterrupt)
        after_response(int)
    assert [each.callback.state for each in captured] == [
        CallbackState.FAILED,
        CallbackState.SKIPPED,
    ]


async def test_cancelling_the_end_of_the_block_leaves_nothing_behind() -> None:
    running, let_go = asyncio.Event(), asyncio.Event()
    captures: list[list[CapturedCallback]] = []

    async def work() -> None:
        running.set()
        await let_go.wait()

    async def test() -> None:
        async with capture_after_response(execute=True) as captured, exchange_scope():
            captures.append(captured)
            after_response(work)
            after_response(fail)

    task = asyncio.ensure_future(test())
    async with asyncio.timeout(DEADLINE):
        await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [captured] = captures
    assert test_hook.interceptors == ()
    assert captured[1].callback.state is CallbackState.SKIPPED
    let_go.set()
    await captured[0].callback.wait(DEADLINE)


# Exchanges that have not ended.


@capturing_and_running
async def test_around_the_block_those_run_that_ask_for_no_outcome(mode: str) -> None:
    ran: list[object] = []

    def plain() -> None:
        after_response(ran.append, 1)

    def asking() -> None:
        after_response.using(takes_outcome=True)(lambda outcome: ran.append(outcome))

    with exchange_scope():
        await execute(mode, plain)
        assert ran == [1]
        with pytest.raises(RuntimeError, match=r"exchange_scope\(\) has not ended") as caught:
            await execute(mode, asking)
    assert ran == [1]
    assert "with capture_after_response(execute=True), exchange_scope()" in str(caught.value)


def test_a_response_that_ends_a_moment_later_is_waited_for(runner: Runner) -> None:
    """As that of a live server, whose client is told before it has ended. What is
    behind waits, too, unless it is concurrent."""
    exchange = thread_exchange(runner)
    registered, block_is_left = threading.Event(), threading.Event()
    order: list[object] = []

    def serve() -> None:
        with entered(exchange):
            after_response.using(takes_outcome=True)(lambda outcome: order.append(outcome.status))
        registered.set()
        assert block_is_left.wait(DEADLINE)
        finish(exchange, 201)

    server = threading.Thread(target=serve)
    with capture_after_response(execute=True) as captured:
        server.start()
        assert registered.wait(DEADLINE)
        with exchange_scope():
            after_response(order.append, "behind")
            after_response.using(concurrent=True)(order.append, "beside")
        threading.Timer(0.05, block_is_left.set).start()
    assert order == ["beside", 201, "behind"]
    assert len(captured) == 3
    server.join(DEADLINE)


def test_a_response_that_does_not_end_is_named(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("async_after.testing.execution.END_TIMEOUT", 0.1)
    exchange = thread_exchange(runner)
    with (
        pytest.raises(RuntimeError, match=r"GET /x .* did not end within 0\.1 s") as caught,
        capture_after_response(execute=True) as captured,
        entered(exchange),
    ):
        after_response.using(name="mine")(fail)
    assert "mine" in str(caught.value)
    assert captured[0].callback.state is CallbackState.SKIPPED
