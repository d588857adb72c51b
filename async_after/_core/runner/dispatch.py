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
from ..exchange import Callback, CallbackState, Exchange, Lane, Ledger
from ..lanes import LoopLane, SessionExecutor, Worker, run_in_thread
from ..runtime import monotonic, running_loop
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
        self._giving_way: dict[Exchange, None] = {}
        """They have ended, and have not been dispatched."""
        self.deliveries: Acknowledgements = Acknowledgements(self._call_later)
        self._lookout = reports.Lookout(capacity, self._call_later)
        self._in_threads: dict[Callback[Any], tuple[Chain, Worker, int]] = {}
        """The plain functions that run now, and where."""
        self._threadless: dict[Exchange, list[Chain]] = {}
        """Chains that wait for a thread; who takes one out of its list goes on with it."""

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
            if callback is None:
                self.capacity.submit(Chain(self, exchange))
            else:
                self.capacity.submit(SingleChain(self, exchange, callback))
        if self.ledger.waiting:
            self._limit_waiting(exchange)
        if not self._lookout.is_on and self.ledger._exchanges:
            self._lookout.look_in(reports.LONG)

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
        except RecursionError:  # there is no stack left
            _thread.start_new_thread(self._go_on, (exchange,))
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
        if not exchange.is_complete:
            exchange.control_is_back()
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
        """``False`` if it waits for a thread: without its slot, which it takes when it has one."""
        waiting = [chain]
        begin, wait = functools.partial(self._work, chain), functools.partial(self._wake, waiting)
        if self.capacity.pool.submit(begin, wait, chain.advance):
            chain.set_out()
            return True
        if not chain.is_single:
            self._threadless[chain.exchange] = waiting
            self._reconsider(chain.exchange)
        return False

    def settled(self, callback: Callback[Any]) -> None:
        self.capacity.settled(callback)
        if self._threadless:
            self._reconsider(callback._owner)

    def _reconsider(self, exchange: Any) -> None:
        """Does its chain still wait for a thread? The plain one that was next may have ended."""
        waiting = self._threadless.get(exchange)
        if waiting is None or (waiting and exchange.queue.is_next(self.ledger, _THREADS)):
            return
        self._threadless.pop(exchange, None)
        try:
            chain = waiting.pop()
        except IndexError:  # a worker has just become free
            return
        self.capacity.submit(chain)

    def _wake(self, waiting: list[Chain]) -> None:
        """In a worker that has become free."""
        try:
            chain = waiting.pop()
        except IndexError:  # it has gone on without
            return
        self._threadless.pop(chain.exchange, None)
        slots = self.capacity.limiter
        if slots.take():
            self._work(chain)
        else:
            slots.submit(chain, first=True)

    def _work(self, chain: Chain) -> None:
        """In a worker: run the plain functions that are next."""
        callback = chain.take(_THREADS)
        while callback is not None:
            self._in_threads[callback] = chain, *self.capacity.pool.current_turn()
            self._run(chain, callback)
            if chain.finished is callback:
                chain.finished = None
                callback = chain.following
                if callback is None and chain.is_over:
                    return
                callback = callback or chain.take(_THREADS)
                continue
            if self._in_threads.pop(callback, None) is None:
                # It was given up: those behind it went on at that moment.
                if callback._returned is not None:
                    callback._discard(callback._returned)
                return
            if callback._returned is not None:
                try:
                    if self.start_async(chain, callback):
                        return
                except Exception as error:
                    chain.lose(callback, error)
            callback = chain.take(_THREADS)
        chain.advance()

    def _finish(
        self,
        chain: Chain,
        callback: Callback[Any],
        state: CallbackState,
        result: Any = None,
        error: BaseException | None = None,
    ) -> None:
        """It has returned: settle it, and take the next one; unless it was given up."""
        if self._in_threads.pop(callback, None) is not None:
            chain.finished, chain.following, chain.is_over = callback, None, False
            settle = chain.exchange.settle
            settle(callback, state, result, error, None, None, chain, _THREADS)

    def _run(self, chain: Chain, callback: Callback[Any]) -> None:
        timeout = self.timeout_of(callback)
        finish = functools.partial(self._finish, chain)
        try:
            if timeout is None:
                run_in_thread(chain.exchange, callback, finish)
                return
            give_up = functools.partial(self.give_up, callback, CallbackState.TIMED_OUT)
            cancel = self.capacity.timers.call_later(timeout, give_up)
            try:
                run_in_thread(chain.exchange, callback, finish)
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
        except RecursionError:
            _thread.start_new_thread(self._go_on, (exchange,))
        except RuntimeError:  # the loop is closed: it is accounted for at once
            self._go_on(exchange)

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

    def abandon(self) -> None:
        """Account for what the loop, which does not run any more, has not ended."""
        self.deliveries.abandon()
        for exchange in [*self._giving_way]:
            self._go_on(exchange)
        self.lane.abandon()
