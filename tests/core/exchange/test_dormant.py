"""Callbacks that wait for what may never come: what ``on_commit`` stands on.

Here without any database: ``ready`` is the commit, ``skip_dormant`` the rollback.
"""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from async_after import Callback, CallbackState, Outcome, Runner, after_response
from async_after._core.delivery import Connection, Delivery
from async_after._core.exchange import KEY, Exchange, Options
from async_after._core.exchange.callback import Task

from ..conftest import (
    DEADLINE,
    MakeRunner,
    disconnected,
    ended,
    entered,
    finish,
    loop_exchange,
    records,
    responding,
    started,
    thread_exchange,
)

PENDING, SUCCEEDED, SKIPPED, CANCELLED, DROPPED = (
    CallbackState.PENDING,
    CallbackState.SUCCEEDED,
    CallbackState.SKIPPED,
    CallbackState.CANCELLED,
    CallbackState.DROPPED,
)


def dormant(
    exchange: Exchange, func: Callable[..., object], *args: object, **options: Any
) -> Callback[Any]:
    """Register one that waits."""
    task: Task = func, args, {}
    is_async = asyncio.iscoroutinefunction(func)
    callback: Callback[Any] = Callback(exchange, "sleeper", Options(**options), is_async, task)
    exchange.add(callback, dormant=True)
    return callback


def idle(exchange: Exchange) -> bool:
    return exchange.idle_latch().wait_in_thread(DEADLINE)


def over(*callbacks: Callback[Any]) -> bool:
    return all(c._owner.latch(c).wait_in_thread(DEADLINE) for c in callbacks)


# Its place.


def test_ready_by_the_response_it_has_its_place(runner: Runner) -> None:
    ran: list[str] = []
    with responding(thread_exchange(runner)) as exchange:
        first = dormant(exchange, ran.append, "1")
        after_response(ran.append, "2")
        third = dormant(exchange, ran.append, "3")
        after_response(ran.append, "4")
        fifth = dormant(exchange, ran.append, "5")
        for callback in (fifth, first, third):
            exchange.ready(callback)
            assert callback.state is PENDING
    assert idle(exchange)
    assert ran == ["1", "2", "3", "4", "5"]


def test_late_it_holds_nobody_up(runner: Runner) -> None:
    ran: list[str] = []
    with responding(thread_exchange(runner)) as exchange:
        sleeper = dormant(exchange, ran.append, "late")
        after_response(ran.append, "1")
        after_response(ran.append, "2")
    assert idle(exchange)
    assert (ran, sleeper.state) == (["1", "2"], PENDING)
    exchange.ready(sleeper)
    assert over(sleeper)
    assert (ran, sleeper.state) == (["1", "2", "late"], SUCCEEDED)


async def test_late_it_joins_the_end_of_a_running_line(runner: Runner) -> None:
    ran: list[str] = []
    running, go = asyncio.Event(), asyncio.Event()

    async def holds() -> None:
        running.set()
        await go.wait()
        ran.append("1")

    with responding(loop_exchange(runner)) as exchange:
        sleeper = dormant(exchange, ran.append, "late")
        after_response(holds)
        after_response(ran.append, "2")
    await started(running)
    exchange.ready(sleeper)
    go.set()
    await ended(sleeper)
    assert ran == ["1", "2", "late"]


def test_alone_it_wakes_an_ended_exchange(runner: Runner) -> None:
    with responding(thread_exchange(runner)) as exchange:
        sleepers = [dormant(exchange, threading.get_ident) for _ in range(2)]
    for sleeper in sleepers:
        exchange.ready(sleeper)
        assert over(sleeper)
        assert sleeper.result() != threading.get_ident()


def test_registered_late_it_waits_too(runner: Runner) -> None:
    """A thread that has outlived its request, in a transaction of its own."""
    with responding(thread_exchange(runner)) as exchange:
        pass
    sleeper = dormant(exchange, int)
    assert (sleeper.state, runner.statistics().pending) == (PENDING, 1)
    exchange.ready(sleeper)
    assert over(sleeper)
    assert sleeper.state is SUCCEEDED


# What else becomes of it.


@pytest.mark.parametrize("is_late", [False, True])
def test_it_is_skipped(runner: Runner, is_late: bool) -> None:
    with entered(thread_exchange(runner)) as exchange:
        sleeper, other = dormant(exchange, int), after_response(int)
    if not is_late:
        exchange.skip_dormant(sleeper)
    finish(exchange)
    assert idle(exchange)
    if is_late:
        exchange.skip_dormant(sleeper)
    assert (sleeper.state, other.state) == (SKIPPED, SUCCEEDED)
    # Whatever comes now, it is too late.
    exchange.ready(sleeper)
    exchange.skip_dormant(sleeper)
    assert not sleeper.cancel()
    assert sleeper.state is SKIPPED
    assert runner.statistics().skipped == 1


def test_once_ready_it_is_not_skipped(runner: Runner) -> None:
    """The hook of a commit dies too."""
    ran: list[int] = []
    with responding(thread_exchange(runner)) as exchange:
        sleeper = dormant(exchange, ran.append, 1)
        exchange.ready(sleeper)
        exchange.skip_dormant(sleeper)
        exchange.ready(sleeper)
    assert over(sleeper)
    exchange.ready(sleeper)
    assert (exchange.claim(), exchange.pending()) == ([], [])
    assert (ran, sleeper.state) == ([1], SUCCEEDED)


@pytest.mark.parametrize("is_late", [False, True])
def test_it_can_be_cancelled(runner: Runner, is_late: bool) -> None:
    with entered(thread_exchange(runner)) as exchange:
        sleeper = dormant(exchange, int)
    if is_late:
        finish(exchange)
    assert sleeper.cancel()
    exchange.ready(sleeper)
    exchange.skip_dormant(sleeper)
    finish(exchange)
    assert idle(exchange)
    assert sleeper.state is CANCELLED
    assert not runner.capacity.ledger.dormant()


@pytest.mark.parametrize("is_late", [False, True])
def test_a_concurrent_one(runner: Runner, is_late: bool) -> None:
    """It does not wait for the line, which it could not overtake otherwise."""
    go = threading.Event()
    with entered(thread_exchange(runner)) as exchange:
        first = after_response(go.wait, DEADLINE)
        sleeper = dormant(exchange, go.set, concurrent=True)
    if is_late:
        finish(exchange)
        exchange.ready(sleeper)
    else:
        exchange.ready(sleeper)
        finish(exchange)
    assert over(first, sleeper)
    assert (first.result(), sleeper.state) == (True, SUCCEEDED)


@pytest.mark.parametrize(("status", "state"), [(200, SUCCEEDED), (500, SKIPPED)])
def test_when_is_asked_where_it_would_run(
    runner: Runner, status: int, state: CallbackState
) -> None:
    with entered(thread_exchange(runner)) as exchange:
        sleepers = [
            dormant(exchange, int, when="success"),
            dormant(exchange, int, when=lambda outcome: outcome.status == 200),
        ]
    finish(exchange, status)
    for sleeper in sleepers:
        exchange.ready(sleeper)
        assert over(sleeper)
        assert sleeper.state is state


def test_it_takes_the_outcome(runner: Runner) -> None:
    with entered(thread_exchange(runner)) as exchange:
        sleeper = dormant(exchange, lambda outcome: outcome, takes_outcome=True)
    disconnected(exchange)
    exchange.ready(sleeper)
    assert over(sleeper)
    assert sleeper.result() is exchange.outcome


class Peer(Connection):
    """Acknowledges when it is told to."""

    def __init__(self) -> None:
        self.level = Delivery.HANDED

    def look(self) -> tuple[Delivery, bool]:
        return self.level, self.level < Delivery.ACKNOWLEDGED


class Connected(Exchange):
    """One whose server shows its connection."""

    peer: Connection

    def _seal(self, *, is_bare: bool = False) -> Outcome:
        outcome = super()._seal()
        object.__setattr__(outcome, "connection", self.peer)
        object.__setattr__(outcome, "delivery", self.peer.look()[0])
        return outcome


@pytest.mark.parametrize("order", ["rea", "rae", "era", "ear", "aer", "are"])
def test_it_waits_for_the_acknowledgement_too(runner: Runner, order: str) -> None:
    """``r``\\ eady, ``e``\\ nd and ``a``\\ cknowledgement in any order."""
    exchange = Connected(runner.thread_dispatcher(), "GET", "/x")
    exchange.peer = peer = Peer()
    sleeper = dormant(exchange, lambda outcome: outcome, when="acknowledged", takes_outcome=True)
    for event in order:
        assert not sleeper.done()
        if event == "r":
            exchange.ready(sleeper)
        elif event == "e":
            finish(exchange)
        else:
            peer.level = Delivery.ACKNOWLEDGED
    assert over(sleeper)
    assert sleeper.result().delivery is Delivery.ACKNOWLEDGED
    assert sleeper.outcome is sleeper.result()


@pytest.mark.parametrize("order", ["res", "ers", "esr", "sre"])
def test_never_acknowledged_or_never_committed(runner: Runner, order: str) -> None:
    """``s``\\ kipped by a rollback, or by the time that is up."""
    exchange = Connected(runner.thread_dispatcher(), "GET", "/x")
    exchange.peer = Peer()
    sleeper = dormant(exchange, int, when="acknowledged", delivery_timeout=0.05)
    for event in order:
        if event == "r":
            exchange.ready(sleeper)
        elif event == "e":
            finish(exchange)
        else:
            exchange.skip_dormant(sleeper)
    assert over(sleeper)
    assert sleeper.state is SKIPPED
    assert runner.statistics().skipped == 1


# Nobody waits for it.


async def test_nothing_waits_for_it(runner: Runner) -> None:
    with responding(loop_exchange(runner)) as exchange:
        sleeper = dormant(exchange, int)
        # An open exchange has it too.
        assert runner.statistics().open_exchanges == 1
    await runner.drain(DEADLINE)
    assert await exchange.idle_latch().wait(DEADLINE)
    statistics = runner.statistics()
    assert (statistics.pending, statistics.waiting, statistics.registered) == (1, 0, 1)
    assert (statistics.open_exchanges, exchange.pending()) == (0, [])
    exchange.ready(sleeper)
    # From now on somebody does.
    await runner.drain(DEADLINE)
    assert sleeper.state is SUCCEEDED


def test_idle_is_asked_again(runner: Runner) -> None:
    """The answer of before is none for what became ready since."""
    go = threading.Event()
    with responding(thread_exchange(runner)) as exchange:
        sleeper = dormant(exchange, go.wait, DEADLINE)
    assert idle(exchange)
    exchange.ready(sleeper)
    latch = exchange.idle_latch()
    assert not latch.wait_in_thread(0)
    go.set()
    assert latch.wait_in_thread(DEADLINE)
    assert sleeper.result()


async def test_somebody_may_wait_for_it(runner: Runner) -> None:
    with responding(loop_exchange(runner)) as exchange:
        sleepers = [dormant(exchange, str), dormant(exchange, str)]
    waits = [asyncio.create_task(sleeper.wait(DEADLINE)) for sleeper in sleepers]
    await asyncio.sleep(0)
    exchange.skip_dormant(sleepers[0])
    exchange.ready(sleepers[1])
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert (type(results[0]).__name__, results[1]) == ("CallbackNotRun", "")


async def test_it_takes_no_room(make_runner: MakeRunner) -> None:
    runner = make_runner(pending_limit=1, overflow="raise")
    with responding(loop_exchange(runner)) as exchange:
        sleepers = [dormant(exchange, int) for _ in range(10)]
    with responding(loop_exchange(runner)):
        other = after_response(int)
    await runner.drain(DEADLINE)
    assert other.state is SUCCEEDED
    for sleeper in sleepers:
        exchange.ready(sleeper)
        await ended(sleeper)
        assert sleeper.state is SUCCEEDED


# The end of the runner.


@pytest.mark.parametrize("is_ended", [False, True])
async def test_at_shutdown_it_is_dropped(
    runner: Runner, caplog: pytest.LogCaptureFixture, is_ended: bool
) -> None:
    with entered(loop_exchange(runner)) as exchange:
        sleeper, other = dormant(exchange, int), dormant(exchange, int)
        exchange.ready(other)
    if is_ended:
        finish(exchange)
        await runner.drain(DEADLINE)
    else:
        # Also if the response never comes.
        other.cancel()
    async with asyncio.timeout(DEADLINE):
        await runner.aclose()
    assert sleeper.state is DROPPED
    [named, summary] = [record.getMessage() for record in records(caplog)]
    assert named.startswith("callback sleeper of GET /x")
    assert "was dropped" in named
    assert "its transaction was still open" in named
    assert "1 callback" in summary
    # The commit that comes now changes nothing.
    exchange.ready(sleeper)
    assert sleeper.state is DROPPED
    assert not runner.capacity.ledger.dormant()


async def test_what_became_ready_is_drained(runner: Runner) -> None:
    gate = asyncio.Event()
    with responding(loop_exchange(runner)) as exchange:
        after_response(gate.wait)
        sleeper = dormant(exchange, int)
    closing = asyncio.create_task(runner.aclose())
    await asyncio.sleep(0)
    # The transaction ends while the runner is being closed.
    exchange.ready(sleeper)
    gate.set()
    await closing
    assert sleeper.state is SUCCEEDED


# Nothing is left.


def collected(*references: "weakref.ref[Any]") -> bool:
    gc.collect()
    return all(reference() is None for reference in references)


@pytest.mark.parametrize("fate", ["ready", "skip", "cancel"])
def test_no_leaks(runner: Runner, fate: str) -> None:
    class Thing:
        """An argument, a request."""

    def go() -> list["weakref.ref[Any]"]:
        exchange = thread_exchange(runner)
        request, argument = Thing(), Thing()
        exchange.request = request
        sleeper = dormant(exchange, id, argument)
        finish(exchange)
        # Whoever still waits has it all.
        assert exchange.request is request
        if fate == "ready":
            exchange.ready(sleeper)
            assert over(sleeper)
            assert idle(exchange)
        elif fate == "skip":
            exchange.skip_dormant(sleeper)
        else:
            sleeper.cancel()
        assert exchange.request is None
        assert sleeper.done()
        return [weakref.ref(thing) for thing in (exchange, sleeper, request, argument)]

    references = go()
    assert not runner.capacity.ledger.dormant()
    assert not runner.capacity.ledger.exchanges()
    assert collected(*references)


def test_of_a_key_the_last_one_runs(runner: Runner) -> None:
    ran: list[str] = []
    with responding(thread_exchange(runner)) as exchange:
        here = after_response.using(request={KEY: exchange}, key="k")
        first = dormant(exchange, ran.append, "first", key="k")
        second = dormant(exchange, ran.append, "second", key="k")
        exchange.ready(first)
        exchange.ready(second)
        other = dormant(exchange, ran.append, "other", key="other")
        plain = here.using(key="other")(ran.append, "plain")
        exchange.ready(other)
    assert idle(exchange)
    assert ran == ["second", "plain"]
    assert (first.state, second.state) == (CANCELLED, SUCCEEDED)
    assert (other.state, plain.state) == (CANCELLED, SUCCEEDED)
