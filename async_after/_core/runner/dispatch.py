"""From an ended exchange to the lanes, in chains that take one slot of the runner each."""

import _thread
import asyncio
import contextvars
import functools
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

from ..capacity import Capacity, Chain, SingleChain, reports
from ..exchange import Callback, CallbackState, Exchange, Ledger
from ..lanes import LoopLane, SessionExecutor
from ..runtime import log, monotonic, running_loop
from .acknowledgements import Acknowledgements
from .plain import PlainFunctions

OVERDUE = 0.5
"""Seconds after which what was to be done later is late."""
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
        self.ledger: Ledger = capacity.ledger
        self.refuse_overflow: Callable[[str], None] = capacity.refuse_overflow
        self.wait_for_room: Callable[[Exchange], Awaitable[None]] = capacity.wait_for_room
        self.registered: Callable[[Callback[Any]], None] = capacity.registered
        self.started: Callable[[Callback[Any]], None] = capacity.started
        self.give_back: Callable[[], bool] = capacity.limiter.give_back
        self.release: Callable[[], None] = capacity.limiter.release
        self.timeout_of: Callable[[Callback[Any]], float | None] = capacity.timeout_of
        self.lending: Callable[[Callback[Any]], AbstractContextManager[None]] = (
            capacity.limiter.lending
        )
        self.is_closing: bool = False
        """The runner is being closed, for this dispatcher's exchanges too."""
        self.is_shut: bool = False
        """It is closed: their callbacks are not started any more."""
        self._giving_way: dict[Exchange, float] = {}
        """They have ended, and have not been dispatched; until when they give way."""
        self.deliveries: Acknowledgements = Acknowledgements(self._call_later)
        self._lookout = reports.Lookout(capacity, self._call_later, self.mend)
        self._plain = PlainFunctions(capacity, self)

    def dispatch(self, exchange: Exchange) -> None:
        if exchange in self._giving_way:
            return  # what comes meanwhile goes with the others
        if not exchange.is_complete and exchange.queue.is_over and not self.is_shut:
            # It is late, and may be so by microseconds only.
            left = exchange.unseen()
            if left > 0:
                self.give_way(exchange, left)
                return
        heir = self._heir() if self.is_shut else self
        if heir is not self:
            exchange.host = heir
            heir.dispatch(exchange)
            return
        for callback in exchange.claim():
            try:
                if callback is None:
                    self.capacity.submit(Chain(self, exchange))
                else:
                    self.capacity.submit(SingleChain(self, exchange, callback))
            except Exception:
                exchange.reclaim(callback)
                self._dispatch_again(exchange)
        if self.ledger.waiting:
            self._limit_waiting(exchange)
        if not self._lookout.is_on and self.ledger._exchanges:
            self._lookout.look_in(reports.LONG)

    def _dispatch_again(self, exchange: Exchange) -> None:
        self.ledger.gate.asked.append(functools.partial(exchange.host.dispatch, exchange))
        self.ledger.gate.hurry()
        log("exception", "internal_error", "what dispatches failed, and is done once more")

    def _limit_waiting(self, exchange: Exchange) -> None:
        self.capacity.limit_waiting(exchange)

    def give_way(self, exchange: Exchange, seconds: float = GIVE_WAY) -> None:
        """Dispatch it when the server has ended the response, and answered what the client
        may ask for right behind it."""
        if self.is_shut:  # it is accounted for at once
            self.dispatch(exchange)
            return
        self._giving_way[exchange] = monotonic() + seconds
        self._go_on_by(functools.partial(self._start_later, seconds), exchange)

    def _start_later(self, seconds: float, function: Callable[[], None]) -> None:
        starts = self.capacity.starts
        cancel = starts.call_later(seconds, function)
        if not starts.is_running:
            cancel()
            raise RuntimeError("no thread can be started any more")

    def _go_on_by(self, start: Callable[[Callable[[], None]], object], exchange: Exchange) -> None:
        go_on = functools.partial(self._go_on, exchange)
        try:
            start(go_on)
        except (RecursionError, MemoryError):  # there is no stack left
            _thread.start_new_thread(go_on, ())
        except RuntimeError:  # there is no later
            go_on()

    def _go_on(self, exchange: Exchange) -> None:
        self._giving_way.pop(exchange, None)
        try:
            if not exchange.is_complete:
                exchange.control_is_back()
            self.dispatch(exchange)
        except Exception:
            self._dispatch_again(exchange)

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
        return self._plain.start(chain)

    def settled(self, callback: Callback[Any]) -> None:
        self.capacity.settled(callback)
        if self._plain.threadless:
            self._plain.reconsider(callback._owner)

    def give_up(
        self, callback: Callback[Any], state: CallbackState, reason: str | None = None
    ) -> None:
        self._plain.give_up(callback, state, reason)

    def mend(self) -> None:
        """What somebody else has called, a loop say, for the first of our functions of which no
        stack or no memory was left, has not been done. For who waits for its end."""
        overdue = monotonic() - OVERDUE
        for exchange, until in [*self._giving_way.items()]:
            if until < overdue:
                self._go_on(exchange)

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
        self._giving_way[exchange] = monotonic()
        # If the loop is closed it is accounted for at once.
        soon = functools.partial(self.loop.call_soon, context=contextvars.Context())
        self._go_on_by(soon, exchange)

    def _start_later(self, seconds: float, function: Callable[[], None]) -> None:
        self._call_later(seconds, function)

    def start_async(self, chain: Chain, callback: Callback[Any]) -> bool:
        if callback.home == "background":
            return self.capacity.background.start(chain, callback)
        return self.lane.start_from_anywhere(chain, callback)

    def _call_later(self, seconds: float, function: Callable[[], None]) -> None:
        if time.monotonic is not monotonic.func:  # as is_frozen(), without a call of ours
            if self.loop.is_closed():
                raise RuntimeError("the loop is closed")
            self.capacity.starts.call_later(seconds, functools.partial(self._tell_loop, function))
            return
        # Not a thread, where there is a loop. The timer keeps its context for so long.
        later = functools.partial(self.loop.call_later, context=contextvars.Context())
        if running_loop() is self.loop:
            later(seconds, function)
        else:
            self.loop.call_soon_threadsafe(later, seconds, function)

    def _tell_loop(self, function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # it is closed, and abandon() accounts for all
            self.loop.call_soon_threadsafe(function, context=contextvars.Context())

    def mend(self) -> None:
        super().mend()
        self.lane.mend()

    def abandon(self) -> None:
        """Account for what the loop, which does not run any more, has not ended."""
        self.deliveries.abandon()
        for exchange in [*self._giving_way]:
            self._go_on(exchange)
        self.lane.abandon()
