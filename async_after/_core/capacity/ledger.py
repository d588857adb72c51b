"""What a runner knows of its callbacks: how many, in which state, and whose.

Promise 2, once_or_accounted: all states are counted under one lock, so that
their sum is the number of the registered callbacks at any time.
"""

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from ..exchange import RUNNING, Callback, CallbackState, Exchange
from ..runtime import Latch

_STATES = tuple(state.value.replace(" ", "_") for state in CallbackState)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What ``Runner.statistics()`` saw at one moment; totals since the process began."""

    open_exchanges: int
    """Requests that have registered callbacks, and whose response is not finished."""
    waiting: int
    """Those of the pending whose response is finished, and that wait for one of
    the ``limit`` slots: ``pending_limit`` bounds them."""
    overdue: int
    """Worker threads held by plain functions that have timed out."""
    pending: int
    running: int
    succeeded: int
    failed: int
    timed_out: int
    cancelled: int
    skipped: int
    dropped: int

    @property
    def registered(self) -> int:
        """All callbacks: the sum of the states, ``pending`` to ``dropped``."""
        return sum(getattr(self, state) for state in _STATES)


class Ledger:
    """The bookkeeping part of ``exchange.Host``. Its lock may be taken
    under that of an exchange; under it no other is taken."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Empty it in place, after a fork too: others keep references to its methods."""
        self._lock = threading.Lock()
        # By the value: hashing a member of an Enum runs Python code.
        self._counts = {state.value: 0 for state in CallbackState}
        self.waiting: int = 0
        self.begun: int = 0
        """How many have left the line of those that wait."""
        self._doomed = 0
        self._running: dict[Callback[Any], float | None] = {}
        """Since when; ``None`` for those that have been named for it."""
        self._exchanges: set[Exchange] = set()
        """Those with unsettled callbacks, open or ended."""
        self._dormant: weakref.WeakSet[Exchange] = weakref.WeakSet()
        """Those with callbacks that nobody waits for; some have none any more.
        Weakly: they live as long as what is to make their callbacks ready."""
        self._has_dormant = False
        """Whether there may be some: asking the set runs Python code."""
        self._idle: Latch | None = None
        self._changed: Latch | None = None

    def admit(self, exchange: Exchange, first: bool, dormant: bool) -> None:
        with self._lock:
            self._counts["pending"] += 1
            if dormant:
                self._dormant.add(exchange)
                self._has_dormant = True
            elif first:
                self._exchanges.add(exchange)

    def wake(self, exchange: Exchange) -> None:
        with self._lock:
            self._exchanges.add(exchange)

    def move(
        self,
        callback: Callback[Any],
        before: CallbackState,
        after: CallbackState,
        was_waiting: bool,
    ) -> None:
        counts = self._counts
        with self._lock:
            counts[before._value_] -= 1
            counts[after._value_] += 1
            if after is RUNNING:
                self._running[callback] = monotonic()
            elif before is RUNNING:
                self._running.pop(callback, None)
            if was_waiting:
                self.waiting -= 1
                self.begun += 1
                if after is CallbackState.DROPPED and self._doomed:
                    self._doomed -= 1

    def turn(self, ended: Callback[Any], begun: Callback[Any], was_waiting: bool) -> None:
        with self._lock:
            self._counts["pending"] -= 1
            self._counts["succeeded"] += 1
            self._running.pop(ended, None)
            self._running[begun] = monotonic()
            if was_waiting:
                self.waiting -= 1
                self.begun += 1

    def count_waiting(self, count: int) -> None:
        with self._lock:
            self.waiting += count
            if count < 0:
                self.begun -= count

    def idle(self, exchange: Exchange, has_dormant: bool) -> None:
        with self._lock:
            self._exchanges.discard(exchange)
            if self._has_dormant and not has_dormant:
                self._dormant.discard(exchange)
                self._has_dormant = bool(self._dormant)
            if self._idle is None and self._changed is None:
                return
            changed, self._changed = self._changed, None
            idle = None
            if not self._exchanges:
                idle, self._idle = self._idle, None
        for latch in filter(None, (changed, idle)):
            latch.open()

    # Questions.

    def statistics(self, overdue: int) -> Statistics:
        with self._lock:
            exchanges = {*self._exchanges, *self._dormant} if self._dormant else self._exchanges
            open_exchanges = sum(not exchange.is_ended for exchange in exchanges)
            return Statistics(open_exchanges, self.waiting, overdue, *self._counts.values())

    def exchanges(self) -> list[Exchange]:
        with self._lock:
            return [*self._exchanges]

    def dormant(self) -> list[Exchange]:
        with self._lock:
            return [*self._dormant]

    def running(self) -> list[Callback[Any]]:
        with self._lock:
            return [*self._running]

    def holds(self, exchange: Exchange) -> bool:
        return exchange in self._exchanges

    def is_running(self, callback: Callback[Any]) -> bool:
        return callback in self._running

    def dooms(self, limit: int) -> bool:
        """Whether more than ``limit`` wait, so that one is to be dropped. Who asks
        then drops one, or calls ``spare``: nobody else is told to for the same."""
        with self._lock:
            if self.waiting - self._doomed <= limit:
                return False
            self._doomed += 1
            return True

    def spare(self) -> None:
        with self._lock:
            # Unless somebody else has dropped it, a shutdown say.
            self._doomed -= self._doomed > 0

    def long_running(self, seconds: float) -> tuple[list[Callback[Any]], float | None]:
        """Those that have been running for so long, beyond their timeout if they
        have one, once each; and in how many seconds to ask again, ``None`` for
        not at all."""
        now = monotonic()
        found: list[Callback[Any]] = []
        due: list[float] = []
        with self._lock:
            for callback, since in self._running.items():
                if since is None:
                    continue
                left = since + seconds + (callback._timeout or 0) - now
                if left > 0:
                    due.append(left)
                else:
                    self._running[callback] = None
                    found.append(callback)
        return found, min(due, default=None)

    def running_for(self, callback: Callback[Any]) -> float:
        """For how many seconds."""
        since = self._running.get(callback)
        return 0.0 if since is None else monotonic() - since

    # Waiting for the end of all.

    async def wait_idle(self, timeout: float | None) -> bool:
        """Wait up to ``timeout`` seconds; whether nothing is pending or running."""
        latch = self._idle_latch()
        return latch is None or await latch.wait(timeout)

    async def wait_until(self, is_over: Callable[[], bool], timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until ``is_over``, which is asked
        whenever an exchange has no unsettled callback any more."""
        deadline = monotonic() + timeout
        while True:
            with self._lock:
                changed = self._changed = self._changed or Latch()
            if is_over():
                return True
            if not await changed.wait(deadline - monotonic()):
                return is_over()

    def wait_idle_in_thread(self, timeout: float | None) -> bool:
        latch = self._idle_latch()
        return latch is None or latch.wait_in_thread(timeout)

    def _idle_latch(self) -> Latch | None:
        with self._lock:
            if self._exchanges and self._idle is None:
                self._idle = Latch()
            return self._idle
