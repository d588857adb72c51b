"""``capture_after_response`` and ``suppress_after_response``, without any framework."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from async_after import (
    Callback,
    CallbackNotRun,
    CallbackState,
    NoActiveExchange,
    Runner,
    aafter_response,
    after_response,
    exchange_scope,
    get_runner,
)
from async_after._core.registration import test_hook
from async_after.testing import (
    capture_after_response,
    raise_callback_errors,
    suppress_after_response,
)

from ..core.conftest import DEADLINE, entered, finish, thread_exchange


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No state stays behind, and no callback is lost or left pending."""
    before = get_runner().statistics().pending
    yield
    assert test_hook.interceptors == ()
    assert get_runner().statistics().pending == before


def fail(message: str = "no", kind: type[BaseException] = ValueError) -> None:
    raise kind(message)


# What is captured.


def test_it_collects_what_is_registered_and_runs_nothing() -> None:
    ran: list[object] = []
    with capture_after_response() as captured, exchange_scope():
        callback = after_response.using(timeout=3, when="error")(ran.append, "secret")
        keyword = after_response(int, "11", base=2)
        assert [each.callback.state for each in captured] == [CallbackState.PENDING] * 2
    [first, second] = captured
    assert (first.name, first.func, first.args, first.kwargs) == (
        callback.name,
        ran.append,
        ("secret",),
        {},
    )
    assert (first.options.timeout, first.options.when) == (3, "error")
    assert first.callback is callback
    assert (second.args, second.kwargs) == (("11",), {"base": 2})
    assert ran == []
    assert callback.state is keyword.state is CallbackState.SKIPPED
    assert "secret" not in repr(captured)
    with pytest.raises(CallbackNotRun, match="skipped"):
        callback.result()


def test_the_exchange_itself_has_nothing_to_run_and_waits_for_nothing(runner: Runner) -> None:
    """While it is captured nobody waits for it: neither a request nor a drain."""
    exchange = thread_exchange(runner)
    with capture_after_response():
        with entered(exchange):
            after_response(int)
        assert exchange.end() is False
        asyncio.run(runner.drain(timeout=0.5))
        assert runner.statistics().pending == 1
    assert runner.statistics().skipped == 1
    assert exchange.idle_latch().wait_in_thread(DEADLINE)


def test_after_the_block_callbacks_run_again() -> None:
    ran: list[int] = []
    with exchange_scope():
        with capture_after_response():
            after_response(ran.append, 1)
        after_response(ran.append, 2)
    assert ran == [2]


def test_outside_of_an_exchange_the_one_rule_applies() -> None:
    with capture_after_response() as captured, pytest.raises(NoActiveExchange):
        after_response(int)
    assert captured == []


def test_the_list_may_be_cleared_between_two_steps_of_a_test() -> None:
    ran: list[int] = []
    with capture_after_response(execute=True) as captured:
        with exchange_scope():
            after_response(ran.append, 1)
        assert len(captured) == 1
        captured.clear()
        with exchange_scope():
            after_response(ran.append, 2)
    assert [each.args for each in captured] == [(2,)]
    assert ran == [1, 2]


async def test_async_registrations_are_captured() -> None:
    async with capture_after_response() as captured, exchange_scope():
        await aafter_response.using(name="own")(asyncio.sleep, 0)
    assert [each.name for each in captured] == ["own"]


def test_a_wrong_registration_is_neither_captured_nor_kept() -> None:
    unhashable: Any = []
    with capture_after_response() as captured, exchange_scope():
        with pytest.raises(TypeError):
            after_response(None)  # type: ignore[call-overload]
        with pytest.raises(TypeError):
            after_response.using(key=unhashable)(int)
    assert captured == []


def test_other_threads_are_captured_too(runner: Runner) -> None:
    """Also while the block ends: each is captured, or runs as ever."""
    exchange = thread_exchange(runner)
    ran: list[int] = []
    registered: list[Callback[None]] = []
    many = threading.Event()

    def register() -> None:
        with entered(exchange):
            for number in range(2000):
                registered.append(after_response(ran.append, number))
                if number == 100:
                    many.set()

    thread = threading.Thread(target=register)
    with capture_after_response() as captured:
        thread.start()
        assert many.wait(DEADLINE)
    thread.join(DEADLINE)
    finish(exchange)
    assert exchange.idle_latch().wait_in_thread(DEADLINE)
    number = len(captured)
    assert number > 100
    assert [callback.state for callback in registered[:number]] == [CallbackState.SKIPPED] * number
    assert ran == [*range(number, 2000)]


def test_nested_the_innermost_captures() -> None:
    with exchange_scope(), capture_after_response() as outer:
        after_response.using(name="one")(int)
        with capture_after_response() as inner:
            after_response.using(name="two")(int)
        after_response.using(name="three")(int)
    assert [each.name for each in outer] == ["one", "three"]
    assert [each.name for each in inner] == ["two"]


def test_a_key_replaces_as_ever() -> None:
    ran: list[int] = []
    with capture_after_response(execute=True) as captured, exchange_scope():
        for number in range(3):
            after_response.using(key="k")(ran.append, number)
    assert ran == [2]
    assert [each.callback.state for each in captured] == [
        CallbackState.CANCELLED,
        CallbackState.CANCELLED,
        CallbackState.SUCCEEDED,
    ]


def test_a_captured_one_can_be_cancelled() -> None:
    with capture_after_response(execute=True) as captured, exchange_scope():
        assert after_response(fail).cancel() is True
    assert captured[0].callback.state is CallbackState.CANCELLED


# suppress_after_response


def test_suppressed_ones_are_skipped_at_once() -> None:
    with exchange_scope(), suppress_after_response():
        callback = after_response(fail)
        assert callback.state is CallbackState.SKIPPED
    with pytest.raises(CallbackNotRun, match="skipped"):
        callback.result()


async def test_suppressing_in_a_coroutine() -> None:
    async with suppress_after_response(), exchange_scope():
        callback = await aafter_response(asyncio.sleep, DEADLINE)
    assert callback.state is CallbackState.SKIPPED


def test_suppressing_inside_a_capture_and_the_other_way_round() -> None:
    ran: list[int] = []
    with capture_after_response(execute=True) as captured, exchange_scope():
        with suppress_after_response():
            after_response(fail)
        after_response(ran.append, 1)
    assert len(captured) == 1
    with suppress_after_response(), capture_after_response(execute=True), exchange_scope():
        after_response(ran.append, 2)
    assert ran == [1, 2]


# As decorators, and wrong uses.


def test_as_decorators() -> None:
    ran: list[str] = []

    @capture_after_response(execute=True)
    def executed(argument: str) -> str:
        """Doc."""
        with exchange_scope():
            after_response(ran.append, argument)
        assert ran == []
        return "value"

    @suppress_after_response()
    async def suppressed() -> CallbackState:
        async with exchange_scope():
            return after_response(fail).state

    assert (executed.__name__, executed.__doc__) == ("executed", "Doc.")
    assert executed("a") == "value"
    assert ran == ["a"]
    assert asyncio.run(suppressed()) is CallbackState.SKIPPED


async def test_a_decorated_coroutine_function_is_awaited_inside() -> None:
    ran: list[int] = []

    @capture_after_response(execute=True)
    async def test() -> None:
        async with exchange_scope():
            after_response(ran.append, 1)
        await asyncio.sleep(0)
        assert ran == []

    await asyncio.gather(test(), test())
    assert ran == [1, 1]


@pytest.mark.parametrize("tool", [capture_after_response, suppress_after_response])
def test_what_cannot_be_decorated(tool: Any) -> None:
    def generator() -> Iterator[int]:
        yield 1

    for wrong in (generator, int):
        with pytest.raises(TypeError, match="use it as a block there"):
            tool()(wrong)
    with pytest.raises(TypeError):
        tool(generator)  # without parentheses
    with pytest.raises(TypeError):
        raise_callback_errors(generator)  # type: ignore[call-arg, arg-type]


def test_one_object_is_entered_once_at_a_time() -> None:
    tool = capture_after_response()
    with tool as captured, exchange_scope():
        after_response(int)
        with pytest.raises(RuntimeError, match="make another one"), tool:
            pass
    with tool as again:
        pass
    assert (len(captured), again) == (1, [])


def test_arguments_are_dropped_with_the_list() -> None:
    class Heavy:
        pass

    heavy = Heavy()
    gone = weakref.ref(heavy)
    with capture_after_response() as captured, exchange_scope() as exchange:
        after_response(id, heavy)
        assert captured[0].args == (heavy,)
    captured.clear()
    del heavy
    gc.collect()
    assert gone() is None
    assert exchange.is_ended
