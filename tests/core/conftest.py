"""Helpers: an exchange that runs through a runner without any server."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest

from async_after import Callback, CallbackState, Runner
from async_after._core.conf import Bounds
from async_after._core.exchange import Exchange, Hooks, Ledger, current_exchange

DEADLINE = 10.0
"""Seconds after which a test gives up; no test that passes waits that long."""

MakeRunner = Callable[..., Runner]


@pytest.fixture
def make_runner() -> Iterator[MakeRunner]:
    """Makes runners whose idle threads end with the test, and that log nothing after it."""
    made: list[Runner] = []

    def make(**bounds: Any) -> Runner:
        runner = Runner(**bounds)
        made.append(runner)
        return runner

    yield make
    for runner in made:
        runner.capacity.pool.close()
        runner.capacity.background.close()
        # Now, and not in the log of some other test.
        runner.capacity.backpressure.losses.say_rest()
        runner.capacity.reports.losses.say_rest()


@pytest.fixture
def runner(make_runner: MakeRunner) -> Runner:
    return make_runner()


def loop_exchange(runner: Runner, path: str = "/x") -> Exchange:
    """A new exchange whose coroutine functions run on the running loop."""
    return Exchange(runner.dispatcher(asyncio.get_running_loop()), "GET", path)


def thread_exchange(runner: Runner, path: str = "/x") -> Exchange:
    """A new exchange without an event loop."""
    return Exchange(runner.thread_dispatcher(), "GET", path)


@contextmanager
def entered(exchange: Exchange) -> Iterator[Exchange]:
    """Inside, ``after_response`` registers on this exchange."""
    token = current_exchange.set(exchange)
    try:
        yield exchange
    finally:
        current_exchange.reset(token)


def finish(exchange: Exchange, status: int = 200, error: BaseException | None = None) -> None:
    """The response is sent (or, with ``error``, failed), and control goes back to the server."""
    if error is None:
        exchange.start(status, ())
        exchange.complete()
    if exchange.end(error):
        exchange.host.dispatch(exchange)


def disconnected(exchange: Exchange) -> None:
    """The client leaves, and control goes back to the server."""
    exchange.disconnect()
    if exchange.end():
        exchange.host.dispatch(exchange)


@contextmanager
def responding(exchange: Exchange, status: int = 200) -> Iterator[Exchange]:
    """Register inside; afterwards the response is sent and the callbacks start."""
    with entered(exchange):
        yield exchange
    finish(exchange, status)


async def started(event: asyncio.Event | threading.Event) -> None:
    """Wait for an event of either kind, with a deadline."""
    if isinstance(event, asyncio.Event):
        async with asyncio.timeout(DEADLINE):
            await event.wait()
    else:
        assert await asyncio.to_thread(event.wait, DEADLINE), "not within the deadline"


async def ended(callback: Callback[Any]) -> None:
    """Wait until a callback has its final state, whichever it is."""
    assert await callback._owner.latch(callback).wait(DEADLINE), f"{callback!r} has not ended"


async def free(runner: Runner) -> None:
    """Wait until no slot is taken: a worker gives its own back after its callback has ended."""
    async with asyncio.timeout(DEADLINE):
        while runner.capacity.limiter.used:
            await asyncio.sleep(0)
    assert runner.capacity.limiter.used == 0


async def gone(threads: set[threading.Thread]) -> None:
    """Wait until these threads have ended."""
    for thread in threads:
        await asyncio.to_thread(thread.join, DEADLINE)
        assert not thread.is_alive(), thread.name


def records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the package has logged. asyncio may complain of another test's tasks at any time."""
    return [
        record
        for record in caplog.records
        if record.name == "async_after" and record.levelno != logging.INFO
    ]


def own_threads() -> set[threading.Thread]:
    """The threads that runners have made and that are alive."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("async_after")}


class _Ear:
    """An instrument."""

    def registered(self, callback: Callback[Any]) -> None: ...
    def started(self, callback: Callback[Any]) -> None: ...
    def ended(self, callback: Callback[Any]) -> None: ...


class RecordingHost:
    """A host that runs nothing and keeps books of its own."""

    counts_waiting = True
    closes_with_runner = False
    is_closing = False

    def give_up(
        self, callback: Callback[Any], state: CallbackState, reason: str | None = None
    ) -> None:
        raise NotImplementedError

    def __init__(self) -> None:
        # With an instrument, so that it hears of registrations.
        self.own_bounds: Bounds | None = Bounds(instruments=(_Ear(),))
        self.ledger = Ledger()
        self.ledger.hooks = Hooks([self.registered], [], [self.settled])
        self.ledger.hear()
        self.heard_of: list[Callback[Any]] = []
        self.ended: list[Callback[Any]] = []
        self.dispatched = 0
        self.watched: list[Exchange] = []

    @property
    def is_busy(self) -> bool:
        return bool(self.ledger.exchanges())

    @property
    def waiting(self) -> int:
        return self.ledger.waiting

    def resume(self, exchange: Exchange) -> None:
        self.dispatch(exchange)

    def watch(self, exchange: Exchange) -> None:
        self.watched.append(exchange)

    def queued(self, exchange: Exchange) -> None:
        assert exchange.is_ended, "late before the end"

    def refuse_overflow(self, name: str) -> None:
        pass

    async def wait_for_room(self, exchange: Exchange) -> None:
        pass

    def registered(self, callback: Callback[Any]) -> None:
        self.heard_of.append(callback)

    def started(self, callback: Callback[Any]) -> None:
        raise NotImplementedError

    def settled(self, callback: Callback[Any]) -> None:
        assert callback.done()
        self.ended.append(callback)

    def dispatch(self, exchange: Exchange) -> None:
        assert exchange.is_ended, "dispatched before the end"
        self.dispatched += 1

    def lending(self, callback: Callback[Any]) -> AbstractContextManager[None]:
        return nullcontext()
