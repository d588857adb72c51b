"""Promise 5, isolated, and promise 15, discreet, as the log shows them."""

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from async_after import Callback, CallbackState, Runner, after_response
from async_after._core.exchange import Exchange

from .conftest import (
    DEADLINE,
    MakeRunner,
    disconnected,
    ended,
    entered,
    finish,
    free,
    loop_exchange,
    records,
    responding,
)


class Boom(BaseException):
    """Not an Exception: most ``except`` clauses miss it."""


def raises(error: BaseException, *, is_async: bool) -> Callable[[], Any]:
    def plain() -> None:
        raise error

    async def coroutine() -> None:
        await asyncio.sleep(0)
        raise error

    return coroutine if is_async else plain


ERRORS = [ValueError("x"), SystemExit(3), Boom(), GeneratorExit(), asyncio.CancelledError()]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_isolated(
    runner: Runner, caplog: pytest.LogCaptureFixture, error: BaseException, is_async: bool
) -> None:
    """It is logged with all that finds it, and the others run."""
    exchange = loop_exchange(runner, "/path")
    with responding(exchange, 201):
        failing = after_response.using(name="failing")(raises(error, is_async=is_async))
        following = after_response(int)
    await runner.drain(DEADLINE)
    assert failing.state is CallbackState.FAILED
    assert failing.exception() is error
    assert following.state is CallbackState.SUCCEEDED
    [record] = records(caplog)
    assert (record.name, record.levelname) == ("async_after", "ERROR")
    assert record.getMessage() == "callback failing of GET /path (201) failed"
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert "raise error" in caplog.text


@pytest.mark.parametrize("concurrent", [False, True])
async def test_a_failing_one_frees_its_slot(make_runner: MakeRunner, concurrent: bool) -> None:
    runner = make_runner(limit=1, max_threads=1)
    registrar = after_response.using(concurrent=concurrent)
    for error in ERRORS:
        with responding(loop_exchange(runner)):
            registrar(raises(error, is_async=False))
            registrar(raises(error, is_async=True))
    with responding(loop_exchange(runner)):
        last = registrar(int)
    assert await last.wait(DEADLINE) == 0
    await runner.drain(DEADLINE)
    await free(runner)


def test_keyboard_interrupt_propagates(make_runner: MakeRunner) -> None:
    """Ctrl-C in an async callback reaches whoever runs the loop, and is accounted for."""
    callback: Callback[Any] | None = None

    async def main() -> None:
        nonlocal callback
        with responding(loop_exchange(make_runner())):
            callback = after_response(raises(KeyboardInterrupt(), is_async=True))
        await ended(callback)
        await asyncio.sleep(0)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert callback is not None
    assert callback.state is CallbackState.FAILED
    gc.collect()  # asyncio complains of the task here, and not in some other test


async def test_keyboard_interrupt_in_a_worker(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes to the main thread, where Ctrl-C belongs."""
    interrupted = threading.Event()
    monkeypatch.setattr("_thread.interrupt_main", interrupted.set)
    with responding(loop_exchange(runner)):
        callback = after_response(raises(KeyboardInterrupt(), is_async=False))
        following = after_response(int)
    await runner.drain(DEADLINE)
    assert interrupted.is_set()
    assert (callback.state, following.state) == (CallbackState.FAILED, CallbackState.SUCCEEDED)


class Broken:
    """An instrument that raises at each call."""

    def registered(self, callback: Callback[object]) -> None:
        raise ValueError("registered")

    def started(self, callback: Callback[object]) -> None:
        raise ValueError("started")

    def ended(self, callback: Callback[object]) -> None:
        raise ValueError("ended")


async def test_broken_instrument(make_runner: MakeRunner, caplog: pytest.LogCaptureFixture) -> None:
    runner = make_runner(limit=1, instruments=[Broken()])
    for _ in range(2):
        with responding(loop_exchange(runner)):
            plain = after_response.using(name="n")(int)
            coroutine = after_response(asyncio.sleep, 0)
    await runner.drain(DEADLINE)
    assert {plain.state, coroutine.state} == {CallbackState.SUCCEEDED}
    mine = {r.getMessage() for r in records(caplog) if "callback n " in r.getMessage()}
    assert {message.split(" of GET")[0] for message in mine} == {
        f"instrument Broken failed at {event} of callback n"
        for event in ("registered", "started", "ended")
    }


async def test_accounted_for_when_not_wanted(
    runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    """What is skipped or cancelled is no error: it is told at debug level."""
    caplog.set_level(logging.DEBUG, "async_after")
    with responding(loop_exchange(runner)):
        after_response.using(name="s", when="error")(int)
        after_response.using(name="c")(int).cancel()
    await runner.drain(DEADLINE)
    assert [(r.levelname, r.getMessage()) for r in records(caplog)] == [
        ("DEBUG", "callback c of GET /x (no response) cancelled"),
        ("DEBUG", "callback s of GET /x (200) skipped"),
    ]


@pytest.mark.parametrize("how", ["fails", "times out", "is dropped"])
async def test_discreet(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """No argument and no header in any line about a callback."""
    caplog.set_level(logging.DEBUG, "async_after")
    runner = make_runner(wait_timeout=0.0, close_timeout=DEADLINE)
    running = asyncio.Event()

    async def unlucky(argument: str, *, keyword: str) -> None:
        running.set()
        if how == "fails":
            raise ValueError("not the argument")
        await asyncio.Event().wait()

    exchange = loop_exchange(runner)
    with entered(exchange):
        callback = after_response.using(timeout=0.01 if how == "times out" else None)(
            unlucky, "s3cret", keyword="s3cret"
        )
    exchange.start(200, ((b"set-cookie", b"s3cret"),))
    finish_sent(exchange)
    if how == "is dropped":
        async with asyncio.timeout(DEADLINE):
            await running.wait()
        await runner.aclose()
    await ended(callback)
    record, *total = records(caplog)
    assert record.levelname == "ERROR"
    assert len(total) == (how == "is dropped")
    assert "unlucky" in caplog.text
    assert "s3cret" not in caplog.text + repr(callback) + callback.describe()


def finish_sent(exchange: Exchange) -> None:
    exchange.complete()
    assert exchange.end()
    exchange.host.dispatch(exchange)


async def test_each_end_has_its_label(runner: Runner, caplog: pytest.LogCaptureFixture) -> None:
    for number, end in enumerate([finish, disconnected]):
        exchange = loop_exchange(runner, f"/{number}")
        with entered(exchange):
            after_response.using(name="n")(raises(ValueError(), is_async=False))
        end(exchange)
        await runner.drain(DEADLINE)
    assert [record.getMessage() for record in records(caplog)] == [
        "callback n of GET /0 (200) failed",
        "callback n of GET /1 (no response) failed",
    ]
