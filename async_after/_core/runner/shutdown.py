"""The end of a runner: at ``lifespan.shutdown``, and at the interpreter's exit.

Promise 10, drained: it waits, cancels and ends in time; what comes after the
deadline is DROPPED, and each lost callback is logged by name, and counted.
"""

import asyncio
from collections.abc import Coroutine, Generator, Iterator, Sequence
from contextlib import suppress
from typing import Any

from ..capacity import Capacity
from ..exchange import Callback, CallbackState, Exchange
from ..runtime import log, monotonic, process
from .dispatch import Dispatcher, LoopDispatcher
from .loops import Dispatchers

_SAME_SHUTDOWN = 5.0
"""Seconds between the end of a server's waiting and the exit of its process."""
_TURN = 0.01
"""Seconds that each of several loops runs, at the exit, before it is the turn of the next."""


class Shutdown:
    """Closes the dispatchers that there are when it begins, and what they had
    to run. Apps that start meanwhile have others: that is another life."""

    def __init__(self, capacity: Capacity, dispatchers: Dispatchers) -> None:
        self._capacity = capacity
        self._dispatchers = dispatchers
        self._wait_over: float | None = None

    def begin_waiting(self, seconds: float) -> None:
        """Somebody waits so long for all callbacks, most likely as the process
        is about to end: at its exit it is not waited for a second time."""
        self._wait_over = monotonic() + seconds

    def end_waiting(self) -> None:
        """They have all ended."""
        self._wait_over = None

    async def aclose(self, wait_timeout: float, closing: Sequence[Dispatcher]) -> None:
        dropped = self._begin(wait_timeout, closing)
        ledger = self._capacity.ledger
        deadline = monotonic() + wait_timeout
        try:
            is_over = await ledger.wait_until(self._is_over, wait_timeout)
            self._shut(closing)
            if is_over:
                # What has begun in this very moment still has its time.
                is_over = await ledger.wait_until(self._is_over, deadline - monotonic())
            if not is_over:
                self._give_up(closing)
                await ledger.wait_until(self._is_over, self._capacity.close_timeout)
        finally:
            # Also where the server has lost patience, and cancels this.
            self._end(closing, dropped)
            self._dispatchers.mend()
            here = asyncio.get_running_loop()
            self._dispatchers.reopen(
                [
                    dispatcher
                    for dispatcher in closing
                    if isinstance(dispatcher, LoopDispatcher)
                    and dispatcher.loop is not here
                    and dispatcher.loop.is_running()
                ]
            )

    def at_exit(self, began: float, goes_on: bool) -> Generator[None, float, None]:
        """``aclose``, in a thread: that of others whose turn it is after each stretch."""
        ledger, wait_timeout = self._capacity.ledger, self._capacity.wait_timeout
        dispatchers = self._dispatchers.all()
        resting = [
            dispatcher
            for dispatcher in dispatchers
            if isinstance(dispatcher, LoopDispatcher) and not dispatcher.loop.is_running()
        ]
        can_end = goes_on or process.has_other_threads()
        for exchange in ledger.exchanges():
            if not exchange.is_ended and (exchange.host in resting or not can_end):
                _drop(exchange, exchange.pending(), "the process ended before the response did")
        if self._wait_over is not None:
            left = self._wait_over - monotonic()
            if left > -_SAME_SHUTDOWN:
                wait_timeout = min(max(left, 0.0), wait_timeout)
        for dispatcher in resting:
            if dispatcher.loop.is_closed():
                dispatcher.abandon()
        closing = self._dispatchers.all()
        dropped = self._begin(wait_timeout, closing)
        for exchange in (*ledger.exchanges(), *ledger.dormant()):
            # Scopes, which are not closed at any other time, too.
            exchange.host.is_closing = True
        # Stopped, as Twisted stops daphne's, and not closed: they can go on.
        loops = [dispatcher for dispatcher in resting if not dispatcher.loop.is_closed()]
        deadline = began + wait_timeout
        try:
            is_over = yield from self._wait(loops, deadline)
            self._shut(closing)
            if is_over:
                is_over = yield from self._wait(loops, deadline)
            if not is_over:
                self._give_up(closing)
                yield from self._wait(loops, monotonic() + self._capacity.close_timeout)
        finally:
            for dispatcher in loops:
                dispatcher.abandon()
            self._end(closing, dropped)

    def _wait(
        self, resting: Sequence[LoopDispatcher], deadline: float
    ) -> Generator[None, float, bool]:
        """Until the deadline; whether nothing is left. Loops that rest run meanwhile, in turn."""
        ledger = self._capacity.ledger
        while exchanges := ledger.exchanges():
            at_a_stretch = yield
            left = min(deadline - monotonic(), at_a_stretch)
            if left <= 0:
                return False
            hosts = {exchange.host for exchange in exchanges}
            mine = [each.loop for each in resting if each in hosts and not each.loop.is_closed()]
            if not mine:
                ledger.wait_idle_in_thread(left)
            for loop in mine:
                seconds = min(left, _TURN) if len(mine) > 1 else left
                _run(loop, ledger.wait_until(self._is_over, seconds))
        return True

    def _begin(self, wait_timeout: float, closing: Sequence[Dispatcher]) -> int:
        """These are closed; how many callbacks have been dropped until now."""
        all_are = {*closing} >= {*self._dispatchers.all()}
        exchanges = [e for e in self._capacity.ledger.exchanges() if all_are or e.host in closing]
        if exchanges and wait_timeout:
            log(
                "info",
                "shutdown_began",
                "shutdown: waiting up to %.3g s for the callbacks of %s exchange(s)",
                wait_timeout,
                len(exchanges),
                wait_timeout=wait_timeout,
                exchanges=len(exchanges),
            )
        for dispatcher in closing:
            dispatcher.is_closing = True
        for exchange in (*exchanges, *self._capacity.ledger.dormant()):
            if exchange.host.closes_with_runner and all_are:
                exchange.host.is_closing = True
        return self._capacity.statistics().dropped

    def _is_over(self) -> bool:
        return not self._left()

    def _left(self) -> list[Exchange]:
        """The exchanges that are being closed, and have unsettled callbacks."""
        return [e for e in self._capacity.ledger.exchanges() if e.host.is_closing]

    def _shut(self, closing: Sequence[Dispatcher]) -> None:
        """Nothing begins any more."""
        for dispatcher in closing:
            dispatcher.is_shut = True
        for exchange in self._capacity.ledger.dormant():
            if exchange.host.is_closing:
                _drop(exchange, exchange.dormant(), "shutdown: its transaction was still open")

    def _give_up(self, closing: Sequence[Dispatcher]) -> None:
        """Drop what waits, and cancel what runs."""
        limit = f"within wait_timeout={self._capacity.wait_timeout:g} s"
        reason = f"shutdown: it had not started {limit}"
        for exchange in self._left():
            _drop(exchange, exchange.pending(), reason)
        for chain in self._capacity.limiter.take_closed():
            chain.abandon(reason)
        reason = f"shutdown: it had not ended {limit}"
        for _, callback in self._running_of(self._left()):
            callback._ask_to_stop(CallbackState.DROPPED, reason)

    def _end(self, closing: Sequence[Dispatcher], dropped_before: int) -> None:
        """Nothing is waited for any more."""
        self._shut(closing)
        if self._left():
            self._give_up(closing)
            reason = "shutdown: it had not ended when the time was up"
            for exchange, callback in self._running_of(self._left()):
                exchange.host.give_up(callback, CallbackState.DROPPED, reason)
        capacity = self._capacity
        capacity.backpressure.losses.say_rest()
        capacity.reports.losses.say_rest()
        dropped = capacity.statistics().dropped - dropped_before
        if dropped:
            message = "shutdown: %s callback(s) were lost, as named above"
            log("error", "shutdown_lost", message, dropped, dropped=dropped)
        if all(dispatcher.is_closing for dispatcher in self._dispatchers.all()):
            capacity.pool.close()
            capacity.background.close()
            capacity.timers.hurry()
            capacity.starts.hurry()

    def _running_of(
        self, exchanges: Sequence[Exchange]
    ) -> Iterator[tuple[Exchange, Callback[Any]]]:
        owners: dict[object, Exchange] = {exchange: exchange for exchange in exchanges}
        for callback in self._capacity.ledger.running():
            if callback._owner in owners:
                yield owners[callback._owner], callback


def _drop(exchange: Exchange, pending: Sequence[Callback[Any]], reason: str) -> None:
    for callback in pending:
        exchange.drop(callback, reason, if_pending=True)


def _run(loop: asyncio.AbstractEventLoop, closing: Coroutine[Any, Any, object]) -> None:
    """Run it on a loop that was stopped, and in which others may want it stopped again."""
    task = loop.create_task(closing)
    for _ in range(100):
        with suppress(RuntimeError):  # stopped before the end
            loop.run_until_complete(task)
        if task.done():
            return
