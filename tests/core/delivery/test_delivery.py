"""How far a response got: waiting for it, and callbacks that wait for it."""

import asyncio
import copy
import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from async_after import Callback, CallbackState, Outcome, Runner, after_response
from async_after._core.delivery import Connection, Delivery
from async_after._core.exchange import Completion, Exchange
from async_after._core.runner import Dispatcher

from ..conftest import DEADLINE, MakeRunner, entered, finish, gone, loop_exchange, own_threads

NONE, HANDED, FLUSHED, ACKNOWLEDGED = Delivery
acknowledged = after_response.using(when="acknowledged")


class Script:
    """A connection that tells these levels, one a look, and the last one for ever."""

    def __init__(self, *levels: Delivery, may_rise: bool = True) -> None:
        self.levels = [*levels]
        self.may_rise = may_rise
        self.looks = 0

    def look(self) -> tuple[Delivery, bool]:
        self.looks += 1
        level = self.levels.pop(0) if len(self.levels) > 1 else self.levels[0]
        return level, self.may_rise


class Connected(Exchange):
    """An exchange whose server shows its connection."""

    __slots__ = ("connection",)

    connection: Connection

    def _connection(self) -> Connection:
        return self.connection


def connected(host: Dispatcher, *levels: Delivery, may_rise: bool = True) -> Connected:
    exchange = Connected(host, "GET", "/x")
    exchange.connection = Script(*levels, may_rise=may_rise)
    return exchange


@pytest.fixture(params=["loop", "threads"])
async def host(request: pytest.FixtureRequest, runner: Runner) -> Dispatcher:
    if request.param == "loop":
        return runner.dispatcher(asyncio.get_running_loop())
    return runner.thread_dispatcher()


def sealed(host: Dispatcher, *levels: Delivery, may_rise: bool = True) -> Outcome:
    exchange = connected(host, *levels, may_rise=may_rise)
    finish(exchange)
    return exchange.sealed


# The record.


def test_levels_are_ordered() -> None:
    assert NONE < HANDED < FLUSHED < ACKNOWLEDGED


async def test_no_connection(runner: Runner) -> None:
    exchange = loop_exchange(runner)
    finish(exchange)
    assert (exchange.sealed.delivery, exchange.sealed.connection) == (HANDED, None)
    assert await exchange.sealed.wait_delivered("acknowledged", timeout=DEADLINE) is HANDED


@pytest.mark.parametrize("event", ["disconnect", "nothing"])
async def test_no_response(runner: Runner, event: str) -> None:
    exchange = loop_exchange(runner)
    if event == "disconnect":
        exchange.disconnect()
    exchange.end()
    assert exchange.sealed.delivery is NONE


async def test_a_scope_has_no_response(runner: Runner) -> None:
    exchange = loop_exchange(runner)
    exchange.complete()
    exchange.end()
    assert (exchange.sealed.completion, exchange.sealed.delivery) == (Completion.SENT, NONE)


async def test_the_server_had_thrown_it_away(host: Dispatcher) -> None:
    outcome = sealed(host, NONE, may_rise=False)
    assert (outcome.completion, outcome.delivery) == (Completion.DISCONNECTED, NONE)
    assert not outcome.is_success


async def test_it_is_the_level_at_the_end_and_stays(host: Dispatcher) -> None:
    outcome = sealed(host, FLUSHED, ACKNOWLEDGED)
    assert await outcome.wait_delivered(ACKNOWLEDGED, DEADLINE) is ACKNOWLEDGED
    assert outcome.delivery is FLUSHED


async def test_nobody_looks_unless_somebody_asks(host: Dispatcher) -> None:
    exchange = connected(host, FLUSHED)
    with entered(exchange):
        after_response(int)
    finish(exchange)
    assert isinstance(exchange.connection, Script)
    assert exchange.connection.looks == 0


# Waiting.


@pytest.fixture(params=["async", "sync"])
def wait(request: pytest.FixtureRequest) -> Callable[..., Any]:
    async def wait(outcome: Outcome, *args: Any) -> Delivery:
        if request.param == "async":
            return await outcome.wait_delivered(*args)
        return await asyncio.to_thread(outcome.wait_delivered_sync, *args)

    return wait


async def test_wait(host: Dispatcher, wait: Callable[..., Any]) -> None:
    outcome = sealed(host, HANDED, HANDED, HANDED, FLUSHED, FLUSHED, ACKNOWLEDGED)
    assert await wait(outcome, "flushed", DEADLINE) is FLUSHED
    assert await wait(outcome, ACKNOWLEDGED) is ACKNOWLEDGED


async def test_what_was_reached_is_not_lost(host: Dispatcher, wait: Callable[..., Any]) -> None:
    """A later response makes the connection say HANDED."""
    assert await wait(sealed(host, FLUSHED, HANDED), ACKNOWLEDGED, 0.01) is FLUSHED


async def test_wait_ends_at_its_timeout(host: Dispatcher, wait: Callable[..., Any]) -> None:
    outcome = sealed(host, HANDED)
    began = time.monotonic()
    assert await wait(outcome, "acknowledged", 0.05) is HANDED
    assert 0.05 <= time.monotonic() - began < DEADLINE


async def test_wait_ends_when_it_cannot_rise(host: Dispatcher, wait: Callable[..., Any]) -> None:
    outcome = sealed(host, HANDED)
    assert isinstance(outcome.connection, Script)
    outcome.connection.may_rise = False
    assert await wait(outcome, "acknowledged") is HANDED


async def test_wait_looks_seldom(host: Dispatcher, wait: Callable[..., Any]) -> None:
    outcome = sealed(host, HANDED)
    await wait(outcome, "acknowledged", 0.3)
    assert isinstance(outcome.connection, Script)
    assert outcome.connection.looks < 30


@pytest.mark.parametrize("level", ["arrived", "ACKNOWLEDGED", 3, None])
async def test_what_is_no_level(host: Dispatcher, wait: Callable[..., Any], level: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="one of none, handed, flushed, acknowl"):
        await wait(sealed(host, HANDED), level, 1)


async def test_to_another_process(host: Dispatcher) -> None:
    """A queue may pickle it: the connection stays here."""
    outcome = sealed(host, FLUSHED)
    assert outcome.connection is not None
    there = pickle.loads(pickle.dumps(outcome))
    assert there == outcome
    assert there.connection is None
    assert await there.wait_delivered("acknowledged") is FLUSHED
    assert copy.copy(outcome) == outcome


# Callbacks.


async def test_acknowledged_at_the_end_keeps_its_place(runner: Runner, host: Dispatcher) -> None:
    called: list[str] = []
    exchange = connected(host, ACKNOWLEDGED)
    with entered(exchange):
        after_response(called.append, "first")
        acknowledged(called.append, "second")
        after_response(called.append, "third")
    finish(exchange)
    await runner.drain(DEADLINE)
    assert called == ["first", "second", "third"]


async def test_acknowledged_later(runner: Runner, host: Dispatcher) -> None:
    """It holds nobody up, and has an outcome of its own."""
    seen: list[object] = []
    exchange = connected(host, HANDED)
    with entered(exchange):
        callback = acknowledged.using(takes_outcome=True)(seen.append)
        after_response(seen.append, "after it")
    finish(exchange)
    assert callback.state is CallbackState.PENDING
    assert isinstance(exchange.connection, Script)
    exchange.connection.levels += [FLUSHED, ACKNOWLEDGED]
    await runner.drain(DEADLINE)
    assert exchange.sealed.delivery is HANDED
    assert seen == ["after it", replace(exchange.sealed, delivery=ACKNOWLEDGED)]
    assert callback.outcome is seen[1]


@pytest.mark.parametrize("may_rise", [True, False])
async def test_never_acknowledged(runner: Runner, host: Dispatcher, may_rise: bool) -> None:
    exchange = connected(host, FLUSHED, may_rise=may_rise)
    with entered(exchange):
        callback = acknowledged.using(delivery_timeout=0.02)(int)
    finish(exchange)
    await runner.drain(DEADLINE)
    assert callback.state is CallbackState.SKIPPED
    assert exchange.sealed.completion is Completion.SENT


async def test_skipped_at_once_without_a_connection(runner: Runner) -> None:
    exchange = loop_exchange(runner)
    with entered(exchange):
        callback = acknowledged(int)
    finish(exchange)
    assert callback.state is CallbackState.SKIPPED


async def test_registered_late(runner: Runner, host: Dispatcher) -> None:
    exchange = connected(host, FLUSHED, FLUSHED, ACKNOWLEDGED)
    finish(exchange)
    with entered(exchange):
        callback: Callback[int] = acknowledged(int)
    await runner.drain(DEADLINE)
    assert callback.result() == 0


@pytest.mark.parametrize("how", ["concurrent", "key", "cancel"])
async def test_with_other_options(runner: Runner, host: Dispatcher, how: str) -> None:
    exchange = connected(host, HANDED, HANDED, ACKNOWLEDGED)
    with entered(exchange):
        first = acknowledged.using(key="k" if how == "key" else None)(int)
        second = acknowledged.using(
            key="k" if how == "key" else None, concurrent=how == "concurrent"
        )(int)
    finish(exchange)
    if how == "cancel":
        assert first.cancel()
    await runner.drain(DEADLINE)
    is_gone = how in ("key", "cancel")
    assert first.state is (CallbackState.CANCELLED if is_gone else CallbackState.SUCCEEDED)
    assert second.state is CallbackState.SUCCEEDED


@pytest.mark.parametrize("kind", ["loop", "threads"])
async def test_shutdown_waits_for_it(make_runner: MakeRunner, kind: str) -> None:
    runner = make_runner(wait_timeout=DEADLINE)
    is_loop = kind == "loop"
    loop = asyncio.get_running_loop()
    exchange = connected(
        runner.dispatcher(loop) if is_loop else runner.thread_dispatcher(),
        *[HANDED] * 5,
        ACKNOWLEDGED,
    )
    with entered(exchange):
        callback = acknowledged(int)
    finish(exchange)
    await runner.aclose()
    assert callback.state is CallbackState.SUCCEEDED


@pytest.mark.parametrize("kind", ["loop", "threads"])
async def test_dropped_at_the_end_of_a_shutdown(
    make_runner: MakeRunner, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = own_threads()
    runner = make_runner(wait_timeout=0.02, close_timeout=0.02)
    loop = asyncio.get_running_loop()
    exchange = connected(
        runner.dispatcher(loop) if kind == "loop" else runner.thread_dispatcher(), HANDED
    )
    with entered(exchange):
        callback = acknowledged.using(name="mine", delivery_timeout=DEADLINE)(int)
    finish(exchange)
    await runner.aclose()
    assert callback.state is CallbackState.DROPPED
    assert "callback mine of GET /x (200) was dropped: shutdown" in caplog.text
    await gone(own_threads() - before)


async def test_callbacks_that_wait_start_in_order(runner: Runner, host: Dispatcher) -> None:
    """One look for all of them: the acknowledgement comes between no two."""
    called: list[int] = []
    exchange = connected(host, *[HANDED] * 4, ACKNOWLEDGED)
    with entered(exchange):
        for number in range(20):
            acknowledged(called.append, number)
    finish(exchange)
    await runner.drain(DEADLINE)
    assert called == [*range(20)]
    assert isinstance(exchange.connection, Script)
    assert exchange.connection.looks < 10


def test_a_loop_that_closes_meanwhile(make_runner: MakeRunner) -> None:
    runner = make_runner()
    callbacks: list[Callback[int]] = []

    async def respond() -> None:
        exchange = connected(runner.dispatcher(asyncio.get_running_loop()), HANDED)
        with entered(exchange):
            callbacks.append(acknowledged(int))
        finish(exchange)

    asyncio.run(respond())
    asyncio.run(runner.drain(DEADLINE))
    assert [callback.state for callback in callbacks] == [CallbackState.DROPPED]


@pytest.mark.parametrize("timeout", [float("nan"), -1, "5", True])
async def test_what_is_no_timeout(host: Dispatcher, wait: Callable[..., Any], timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"timeout=.*must be a number of seconds"):
        await wait(sealed(host, HANDED), "flushed", timeout)


async def test_a_loop_is_not_blocked(host: Dispatcher) -> None:
    """It has to send the rest of the response meanwhile."""
    with pytest.raises(RuntimeError, match=r"use 'await outcome\.wait_delivered"):
        sealed(host, HANDED).wait_delivered_sync("flushed")


async def test_headers_that_cannot_be_read(
    runner: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    """The callbacks are handed out all the same."""
    exchange = loop_exchange(runner)
    headers: Any = [(b"x", object())]
    with entered(exchange):
        asks = after_response.using(takes_outcome=True)(lambda outcome: outcome.headers)
        skipped = acknowledged(int)
    exchange.start(200, headers)
    exchange.complete()
    assert exchange.end()
    exchange.host.dispatch(exchange)
    await runner.drain(DEADLINE)
    assert (asks.result(), skipped.state) == ((), CallbackState.SKIPPED)
    assert "the outcome of GET /x (200) has to do without headers" in caplog.text


async def test_headers_that_are_strings(runner: Runner) -> None:
    exchange = loop_exchange(runner)
    headers: Any = [("X-Name", "val\xfce"), (b"Content-Length", b"0")]
    exchange.start(200, headers)
    exchange.complete()
    exchange.end()
    assert exchange.sealed.headers == (("x-name", "val\xfce"), ("content-length", "0"))
