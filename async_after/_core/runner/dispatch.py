"""From an ended exchange to the lanes, in chains that take one slot of the runner each."""

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

from ..capacity import Capacity, Chain, SingleChain, reports
from ..exchange import Callback, CallbackState, Exchange, Lane
from ..lanes import LoopLane, SessionExecutor, Worker, run_in_thread
from ..runtime import running_loop
from .acknowledgements import Acknowledgements

_THREADS: tuple[Lane, ...] = ("threads",)
GIVE_WAY = 0.003
"""Seconds in which the server ends the response, and reads the next request, before
callbacks take the loop or the GIL. Some send the last chunk, or end the connection, only
after the app has returned."""


class Dispatcher:
    """Takes the callbacks of ended exchanges to the lanes (``exchange.Host``)."""

    counts_waiting = True
    closes_with_runner = False

    def __init__(self, capacity: Capacity, heir: "Callable[[], Dispatcher]") -> None:
        """``heir``: who has come after this one, if the runner was opened again since."""
        self.capacity = capacity
        self._heir = heir
        self.admit: Callable[[Exchange, bool, bool], None] = capacity.ledger.admit
        self.move: Callable[[Callback[Any], CallbackState, CallbackState, bool], None] = (
            capacity.ledger.move
        )
        self.turn: Callable[[Callback[Any], Callback[Any], bool], None] = capacity.ledger.turn
        self.count_waiting: Callable[[int], None] = capacity.ledger.count_waiting
        self.wake: Callable[[Exchange], None] = capacity.ledger.wake
        self.idle: Callable[[Exchange, bool], None] = capacity.ledger.idle
        self.refuse_overflow: Callable[[str], None] = capacity.refuse_overflow
        self.wait_for_room: Callable[[], Awaitable[None]] = capacity.wait_for_room
        self.registered: Callable[[Callback[Any]], None] = capacity.registered
        self.settled: Callable[[Callback[Any]], None] = capacity.settled
        self.release: Callable[[], None] = capacity.limiter.release
        self.timeout_of: Callable[[Callback[Any]], float | None] = capacity.timeout_of
        self.lending: Callable[[Callback[Any]], AbstractContextManager[None]] = (
            capacity.limiter.lending
        )
        self.is_closing: bool = False
        """The runner is being closed, for this dispatcher's exchanges too."""
        self.is_shut: bool = False
        """It is closed: their callbacks are not started any more."""
        self._giving_way: dict[Exchange, None] = {}
        """They have ended, and have not been dispatched."""
        self.deliveries: Acknowledgements = Acknowledgements(self._call_later)
        self._is_looking_out = False
        self._in_threads: dict[Callback[Any], tuple[Chain, Worker, int]] = {}
        """The plain functions that run now, and where."""

    def dispatch(self, exchange: Exchange) -> None:
        if exchange in self._giving_way:
            return  # what comes meanwhile goes with the others
        heir = self._heir() if self.is_shut else self
        if heir is not self:
            exchange.host = heir
            heir.dispatch(exchange)
            return
        for callback in exchange.claim():
            if callback is None:
                self.capacity.submit(Chain(self, exchange))
            else:
                self.capacity.submit(SingleChain(self, exchange, callback))
        if self.capacity.ledger.waiting:
            self._limit_waiting(exchange)

    def _limit_waiting(self, exchange: Exchange) -> None:
        self.capacity.limit_waiting(exchange)

    def give_way(self, exchange: Exchange, seconds: float = GIVE_WAY) -> None:
        """Dispatch it when the server has ended the response, and answered what the client
        may ask for right behind it."""
        if self.is_shut:  # it is accounted for at once
            self.dispatch(exchange)
            return
        self._giving_way[exchange] = None
        try:
            self._start_later(seconds, functools.partial(self._go_on, exchange))
        except RuntimeError:  # there is no later
            self._go_on(exchange)

    def _start_later(self, seconds: float, function: Callable[[], None]) -> None:
        starts = self.capacity.starts
        cancel = starts.call_later(seconds, function)
        if not starts.is_running:
            cancel()
            raise RuntimeError("no thread can be started any more")

    def _go_on(self, exchange: Exchange) -> None:
        self._giving_way.pop(exchange, None)
        self.dispatch(exchange)

    def queued(self, exchange: Exchange) -> None:
        self.capacity.limit_waiting(exchange)

    def resume(self, exchange: Exchange) -> None:
        self.dispatch(exchange)

    def watch(self, exchange: Exchange) -> None:
        self.deliveries.watch(exchange)

    def start_async(self, chain: Chain, callback: Callback[Any]) -> bool:
        """Start a RUNNING callback on its loop; ``False`` if that cannot be
        done any more, and it is settled."""
        raise NotImplementedError

    def start_in_thread(self, chain: Chain) -> bool:
        self.capacity.pool.submit(functools.partial(self._work, chain))
        return True

    def _work(self, chain: Chain) -> None:
        """In a worker: run the plain functions that are next."""
        while (callback := chain.take(_THREADS)) is not None:
            self._in_threads[callback] = chain, *self.capacity.pool.current_turn()
            self._run(chain, callback)
            if self._in_threads.pop(callback, None) is None:
                # It was given up: those behind it went on at that moment.
                if callback._returned is not None:
                    callback._returned.close()
                return
            if callback._returned is not None and chain.start(self.start_async, callback):
                return
        chain.advance()

    def _run(self, chain: Chain, callback: Callback[Any]) -> None:
        timeout = self.timeout_of(callback)
        try:
            if timeout is None:
                run_in_thread(chain.exchange, callback)
                return
            give_up = functools.partial(self.give_up, callback, CallbackState.TIMED_OUT)
            cancel = self.capacity.timers.call_later(timeout, give_up)
            try:
                run_in_thread(chain.exchange, callback)
            finally:
                cancel()
        finally:
            callback = give_up = cancel = None  # type: ignore[assignment]  # see invoke.call

    def give_up(
        self, callback: Callback[Any], state: CallbackState, reason: str | None = None
    ) -> None:
        """A thread cannot be killed. The callback is accounted for, the others
        go on, and another worker takes this one's place."""
        # Whoever takes it out lets its chain go on: this, or its worker.
        chain, worker, turn = self._in_threads.pop(callback, (None, None, 0))
        callback._owner.settle(callback, state, reason=reason)
        if chain is not None and worker is not None:
            self.capacity.pool.overdue(worker, turn, callback.name)
            chain.advance()

    # Callbacks without a timeout that take very long are named once.

    def started(self, callback: Callback[Any]) -> None:
        self.capacity.started(callback)
        if not self._is_looking_out:
            self._look_out_in(reports.LONG)

    def _look_out(self) -> None:
        self._is_looking_out = False  # before the look, so that no start goes unseen
        seconds = self.capacity.reports.long_ones()
        if seconds is not None and not self._is_looking_out:
            self._look_out_in(seconds)

    def _look_out_in(self, seconds: float) -> None:
        self._is_looking_out = True
        try:
            self._call_later(seconds, self._look_out)
        except RuntimeError:  # the loop is closed
            self._is_looking_out = False

    def _call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Any thread may call. Raises ``RuntimeError`` if there is no later."""
        self.capacity.timers.call_later(seconds, function)


class LoopDispatcher(Dispatcher):
    """For the exchanges of one event loop: its coroutine functions run there."""

    def __init__(
        self, capacity: Capacity, loop: asyncio.AbstractEventLoop, heir: Callable[[], Dispatcher]
    ) -> None:
        super().__init__(capacity, lambda: self if loop.is_closed() else heir())
        self.loop = loop
        self.lane: LoopLane = LoopLane(loop, SessionExecutor(capacity.pool), capacity.slow_step)
        self.held = 0
        """ASGI coroutines that stay until their callbacks have ended ..."""
        self.cancelled = 0
        """... and those of them that the server has cancelled."""

    def dispatch_soon(self, exchange: Exchange) -> None:
        """Dispatch it when the loop has done what is due now. In its thread only."""
        self._giving_way[exchange] = None
        try:
            self.loop.call_soon(self._go_on, exchange, context=contextvars.Context())
        except RuntimeError:  # the loop is closed: it is accounted for at once
            self._go_on(exchange)

    def _start_later(self, seconds: float, function: Callable[[], None]) -> None:
        self._call_later(seconds, function)

    def start_async(self, chain: Chain, callback: Callback[Any]) -> bool:
        if callback.home == "background":
            return self.capacity.background.start(chain, callback)
        return self.lane.start_from_anywhere(chain, callback)

    def _call_later(self, seconds: float, function: Callable[[], None]) -> None:
        # Not a thread, where there is a loop. The timer keeps its context for so long.
        later = functools.partial(self.loop.call_later, context=contextvars.Context())
        if running_loop() is self.loop:
            later(seconds, function)
        else:
            self.loop.call_soon_threadsafe(later, seconds, function)

    def abandon(self) -> None:
        """Account for what the loop, which does not run any more, has not ended."""
        self.deliveries.abandon()
        for exchange in [*self._giving_way]:
            self._go_on(exchange)
        self.lane.abandon()


class ThreadDispatcher(Dispatcher):
    """For exchanges without an event loop: coroutine functions run on the
    runner's background loop."""

    def _limit_waiting(self, exchange: Exchange) -> None:
        if self.capacity.starts.is_here():
            # Its thread must not wait for handlers of the user's, who hear of what is dropped.
            if self.capacity.backpressure.is_over():
                later = functools.partial(self.capacity.limit_waiting, exchange)
                self.capacity.timers.call_later(0.0, later)
        else:
            self.capacity.limit_waiting(exchange)

    def start_async(self, chain: Chain, callback: Callback[Any]) -> bool:
        return self.capacity.background.start(chain, callback)
