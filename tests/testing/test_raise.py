"""``raise_callback_errors``, without any framework."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from async_after import (
    CallbackNotRun,
    CallbackState,
    Runner,
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

from ..core.conftest import (
    DEADLINE,
    MakeRunner,
    entered,
    finish,
    loop_exchange,
    responding,
    thread_exchange,
)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No state stays behind, and no callback is lost or left pending."""
    before = get_runner().statistics().pending
    yield
    assert test_hook.interceptors == ()
    assert get_runner().statistics().pending == before


def fail(message: str = "no", kind: type[BaseException] = ValueError) -> None:
    raise kind(message)


def test_without_errors_nothing_is_raised_and_everything_runs() -> None:
    with raise_callback_errors(), exchange_scope():
        good = after_response(int)
        after_response.using(when="error")(fail)
        assert after_response(fail).cancel()
    assert good.state is CallbackState.SUCCEEDED


def test_one_error_is_raised_at_the_end_of_the_block() -> None:
    went_on: list[int] = []
    with pytest.raises(ValueError, match="the reason") as caught, raise_callback_errors():  # noqa: PT012
        with exchange_scope():
            after_response.using(name="failing")(fail, "the reason")
        went_on.append(1)
    assert went_on == [1]
    assert caught.value.__notes__ == ["In callback failing of exchange_scope()."]


async def test_several_errors_are_a_group() -> None:
    async def too_long() -> None:
        await asyncio.sleep(DEADLINE)

    with pytest.raises(BaseExceptionGroup) as caught:  # noqa: PT012
        async with raise_callback_errors(), exchange_scope():
            after_response(fail)
            after_response.using(timeout=0.01)(too_long)
            after_response(fail, "1", SystemExit)
    assert [type(error) for error in caught.value.exceptions] == [
        ValueError,
        TimeoutError,
        SystemExit,
    ]


def test_the_error_of_the_block_wins() -> None:
    with pytest.raises(LookupError), raise_callback_errors():  # noqa: PT012
        with exchange_scope():
            after_response(fail)
        raise LookupError


def test_the_error_of_the_block_waits_for_nothing(runner: Runner) -> None:
    let_go = threading.Event()
    with pytest.raises(LookupError), raise_callback_errors(timeout=DEADLINE):  # noqa: PT012
        with responding(thread_exchange(runner)):
            callback = after_response(let_go.wait, DEADLINE)
        raise LookupError
    assert not callback.done()
    let_go.set()
    assert callback._owner.latch(callback).wait_in_thread(DEADLINE)


# Callbacks that still run when the block ends.


def test_what_runs_in_threads_is_waited_for(runner: Runner) -> None:
    """With what it registers meanwhile; and though the response ends only then."""
    left, registered = threading.Event(), threading.Event()
    exchange = thread_exchange(runner)

    def parent() -> None:
        after_response(fail, "child")

    def serve() -> None:
        with entered(exchange):
            after_response(parent)
        registered.set()
        assert left.wait(DEADLINE)
        finish(exchange)

    server = threading.Thread(target=serve)
    with pytest.raises(ValueError, match="child"), raise_callback_errors():  # noqa: PT012
        server.start()
        assert registered.wait(DEADLINE)
        threading.Timer(0.05, left.set).start()
    server.join(DEADLINE)


async def test_what_runs_on_the_loop_is_waited_for(runner: Runner) -> None:
    async def later() -> None:
        await asyncio.sleep(0.02)
        fail("later")

    with pytest.raises(ValueError, match="later"):  # noqa: PT012
        async with raise_callback_errors():
            with responding(loop_exchange(runner)):
                after_response(later)


async def test_with_on_the_loop_that_has_to_go_on_says_so_at_once(runner: Runner) -> None:
    with (
        pytest.raises(TimeoutError, match="use 'async with' there"),
        raise_callback_errors(timeout=600),
        responding(loop_exchange(runner)),
    ):
        callback = after_response(asyncio.sleep, 0)
    await callback.wait(DEADLINE)


async def test_with_on_a_loop_waits_for_threads(runner: Runner) -> None:
    with (
        pytest.raises(ValueError, match="in a thread"),
        raise_callback_errors(),
        responding(thread_exchange(runner)),
    ):
        after_response(fail, "in a thread")


@pytest.mark.parametrize("is_async", [False, True])
def test_the_waiting_is_bounded(runner: Runner, is_async: bool) -> None:
    let_go = threading.Event()
    wanted = r"callback mine of GET /x \(200\) was still running 0.1 s after"

    def block() -> None:
        with raise_callback_errors(timeout=0.1), responding(thread_exchange(runner)):
            after_response.using(name="mine")(let_go.wait, DEADLINE)

    async def ablock() -> None:
        async with raise_callback_errors(timeout=0.1):
            with responding(thread_exchange(runner)):
                after_response.using(name="mine")(let_go.wait, DEADLINE)

    try:
        with pytest.raises(TimeoutError, match=wanted):
            asyncio.run(ablock()) if is_async else block()
    finally:
        let_go.set()


def test_a_response_that_does_not_end_is_named(runner: Runner) -> None:
    exchange = thread_exchange(runner)
    with pytest.raises(TimeoutError, match="its response has not ended: read"):  # noqa: SIM117
        with raise_callback_errors(timeout=0.05), entered(exchange):
            callback = after_response(int)
    assert callback.cancel()


async def test_a_dropped_one_is_an_error(make_runner: MakeRunner) -> None:
    runner = make_runner(wait_timeout=0.01)
    with pytest.raises(CallbackNotRun, match="dropped: "):  # noqa: PT012
        async with raise_callback_errors():
            with responding(loop_exchange(runner)):
                after_response(asyncio.sleep, DEADLINE)
            await runner.aclose()


def test_in_an_exchange_around_the_block_nothing_is_waited_for() -> None:
    with exchange_scope():
        with raise_callback_errors(timeout=600):
            callback = after_response(int)
        assert callback.state is CallbackState.PENDING
    assert callback.result() == 0


# With the other tools.


def test_the_innermost_raises() -> None:
    with raise_callback_errors():
        with pytest.raises(ValueError, match="inner"), raise_callback_errors(), exchange_scope():
            after_response(fail, "inner")
        with pytest.raises(ValueError, match="taken"), capture_after_response(execute=True):  # noqa: SIM117
            with exchange_scope():
                after_response(fail, "taken")
        with suppress_after_response(), exchange_scope():
            after_response(fail)


def test_inside_a_capture_there_is_nothing_to_raise() -> None:
    with capture_after_response() as captured, raise_callback_errors(), exchange_scope():
        after_response(fail)
    assert len(captured) == 1


def test_as_a_decorator() -> None:
    @raise_callback_errors(timeout=1)
    def plain() -> None:
        with exchange_scope():
            after_response(fail, "plain")

    @raise_callback_errors()
    async def coroutine() -> None:
        async with exchange_scope():
            after_response(fail, "coroutine")

    with pytest.raises(ValueError, match="plain"):
        plain()
    with pytest.raises(ValueError, match="coroutine"):
        asyncio.run(coroutine())


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (0, ValueError),
        (-1, ValueError),
        (float("inf"), ValueError),
        (True, TypeError),
        ("5", TypeError),
        (None, TypeError),
    ],
)
def test_a_wrong_timeout(wrong: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"timeout=\.\.\..* seconds"):
        raise_callback_errors(timeout=wrong)
