"""What users, destructors, closing loops and exhausted systems do to the bookkeeping."""

import asyncio
import gc
import logging
import threading
from typing import Any

import pytest

from async_after import Callback, CallbackState, Runner, after_response, exchange_scope, get_runner
from async_after._core.exchange import Exchange

from .conftest import DEADLINE, MakeRunner, ended, entered, finish, loop_exchange, thread_exchange


async def test_a_scope_works_though_the_runner_is_closed() -> None:
    """Somebody waits for its callbacks: they need no runner that starts them."""
    await get_runner().aclose()
    with exchange_scope():
        callback = after_response(int)
    assert callback.result() == 0
    async with exchange_scope():
        callback = after_response(int)
    assert callback.result() == 0


def test_a_destructor_may_register(runner: Runner) -> None:
    """Arguments are dropped when no lock is held."""
    registered: list[Callback[Any]] = []

    class Upload:
        def __del__(self) -> None:
            registered.append(after_response(int))

    with entered(thread_exchange(runner)):
        assert after_response(print, Upload()).cancel()
        gc.collect()
    assert len(registered) == 1


def test_a_key_that_cannot_be_compared(runner: Runner) -> None:
    class Key:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            raise LookupError("no comparing")

    exchange = thread_exchange(runner)
    with entered(exchange):
        after_response.using(key=Key())(int)
        with pytest.raises(LookupError):
            after_response.using(key=Key())(int)
    finish(exchange)
    assert exchange.idle_latch().wait_in_thread(DEADLINE)
    assert not runner.capacity.ledger._exchanges


def test_the_end_of_a_loop_accounts_for_all(make_runner: MakeRunner) -> None:
    """``asyncio.run`` cancels all tasks at its end, and would run no new one."""
    runner = make_runner()
    callbacks: list[Callback[Any]] = []

    async def main() -> None:
        exchange = loop_exchange(runner)
        with entered(exchange):
            callbacks.extend(after_response(asyncio.sleep, 60) for _ in range(3))
        finish(exchange)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [callback.state for callback in callbacks] == [CallbackState.DROPPED] * 3
    assert (runner.capacity.limiter.used, runner.capacity.ledger._exchanges) == (0, set())


def test_a_loop_that_is_closed_under_a_callback(make_runner: MakeRunner) -> None:
    """What the callback does then is no concern of the next request."""
    runner = make_runner()
    callbacks: list[Callback[Any]] = []

    async def clings() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(60)

    async def main() -> None:
        exchange = loop_exchange(runner)
        with entered(exchange):
            callbacks.extend(after_response.using(concurrent=True)(clings) for _ in range(2))
        finish(exchange)
        await asyncio.sleep(0.01)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.set_exception_handler(lambda loop, context: None)  # "Task was destroyed"
    loop.close()

    async def next_life() -> None:
        loop_exchange(runner)

    asyncio.run(next_life())
    assert [callback.state for callback in callbacks] == [CallbackState.DROPPED] * 2
    assert runner.capacity.limiter.used == 0
    gc.collect()


async def test_no_thread_can_be_started(
    make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner()
    exchange = loop_exchange(runner)
    with entered(exchange):
        plain, coroutine = after_response(int), after_response(asyncio.sleep, 0, 7)

    def fails(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        finish(exchange)
        await ended(coroutine)
    assert (plain.state, coroutine.result()) == (CallbackState.DROPPED, 7)
    assert "can't start new thread" in caplog.text
    assert runner.capacity.limiter.used == 0


def test_a_log_filter_that_raises(runner: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise ValueError

    def bad_filter(record: logging.LogRecord) -> bool:
        raise LookupError("this filter fails")

    logger = logging.getLogger("async_after")
    exchange = thread_exchange(runner)
    logger.addFilter(bad_filter)
    try:
        with entered(exchange):
            first, second = after_response(fails), after_response(int)
        finish(exchange)
        assert exchange.idle_latch().wait_in_thread(DEADLINE)
    finally:
        logger.removeFilter(bad_filter)
    assert (first.state, second.state) == (CallbackState.FAILED, CallbackState.SUCCEEDED)
    assert "this filter fails" in capsys.readouterr().err


def test_concurrent_callbacks_of_a_sync_scope_may_wait_for_others() -> None:
    later: list[Callback[int]] = []

    async def waits() -> int:
        return await later[0].wait()

    with exchange_scope():
        first = after_response.using(concurrent=True)(waits)
        later.append(after_response(int))
    assert first.result() == 0


def test_a_scope_inside_cannot_wait_for_its_outer_exchange(runner: Runner) -> None:
    exchange: Exchange = thread_exchange(runner)
    with entered(exchange):
        outer = after_response(int)
        with exchange_scope():
            inner = after_response(outer.wait)
    assert isinstance(inner.exception(), RuntimeError)
    finish(exchange)
    assert exchange.idle_latch().wait_in_thread(DEADLINE)


def test_a_function_that_returns_a_generator(runner: Runner) -> None:
    """Nothing would iterate it: that is told, not passed over."""
    exchange = thread_exchange(runner)
    with entered(exchange):
        callback = after_response(lambda: (number for number in range(3)))
    finish(exchange)
    assert exchange.idle_latch().wait_in_thread(DEADLINE)
    assert "returned a generator" in str(callback.exception())


def test_a_very_long_timeout_spoils_no_other(runner: Runner) -> None:
    go_on = threading.Event()
    exchanges = [thread_exchange(runner), thread_exchange(runner)]
    with entered(exchanges[0]):
        long = after_response.using(timeout=10**12)(go_on.wait, DEADLINE)
    finish(exchanges[0])
    with entered(exchanges[1]):
        short = after_response.using(timeout=0.01)(go_on.wait, DEADLINE)
    finish(exchanges[1])
    assert exchanges[1].idle_latch().wait_in_thread(DEADLINE)
    go_on.set()
    assert exchanges[0].idle_latch().wait_in_thread(DEADLINE)
    assert (long.state, short.state) == (CallbackState.SUCCEEDED, CallbackState.TIMED_OUT)


def test_cancelled_timers_do_not_pile_up(runner: Runner) -> None:
    """Behind one that is far away."""
    timers = runner.capacity.timers
    stop = timers.call_later(3600, lambda: None)
    for _ in range(1000):
        timers.call_later(3000, lambda: None)()
    assert len(timers._heap) < 200
    stop()


async def test_one_scope_object_used_by_two_tasks() -> None:
    scope = exchange_scope()
    both_inside = asyncio.Barrier(2)

    async def use(number: int) -> int:
        async with scope:
            callback = after_response(abs, -number)
            await both_inside.wait()
            if number == 1:  # the first to enter is the first to leave
                await asyncio.sleep(0)
        return callback.result()

    async with asyncio.timeout(DEADLINE):
        assert [*await asyncio.gather(use(1), use(2))] == [1, 2]


def test_an_option_that_is_misspelt() -> None:
    options: dict[str, Any] = {"timout": 1}
    with pytest.raises(TypeError, match=r"no option 'timout'.*Did you mean 'timeout'\?"):
        after_response.using(**options)
