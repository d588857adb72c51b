"""Starts callbacks, bounds how many run and wait, and keeps account of them.

Promise 9, bounded: at most ``limit`` at once. A chain of sequential callbacks
takes one slot, each concurrent callback one of its own. At most
``pending_limit`` of finished exchanges wait, or ``overflow`` says what then.
"""

from collections.abc import Sequence
from typing import Any

from .. import conf
from ..conf import Bounds
from ..exchange import Callback, CallbackState, Exchange, Ledger, Statistics
from ..instrumentation import hooks_of, log_ended, tell
from ..lanes import BackgroundLoop, WorkerPool
from ..runtime import Gate, SwitchInterval, Timers
from .chains import CLOSED_RUNNER, Chain
from .limiter import Limiter
from .overflow import FULL, Backpressure
from .reports import Reports, SlowOnes


class Capacity:
    """A runner, as its dispatchers and its shutdown see it."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.owner: object = None
        """The runner. It lives on while its callbacks do, though nobody else refers to it."""
        self.ledger: Ledger = Ledger()
        self.limiter: Limiter = Limiter(bounds.limit, self.ledger)
        self.begin_life()

    def follow(self, bounds: Bounds) -> None:
        """These are the bounds from now on."""
        self._bounds = bounds
        self.limiter.limit = bounds.limit
        self.hear()

    def begin_life(self) -> None:
        """Nothing runs and nothing waits: in a new runner, and in a process
        that was forked off, which has none of the threads of its parent."""
        switching = SwitchInterval(lambda: self._bounds.switch_interval)
        self.pool: WorkerPool = WorkerPool(lambda: self._bounds.max_threads, switching)
        self.timers: Timers = Timers()
        # Another thread, as functions of ``timers`` may spend long in the user's handlers. It
        # lingers while requests come: a new one for each would cost too much.
        self.starts: Timers = Timers(linger=1.0)
        self.background: BackgroundLoop = BackgroundLoop(self.pool, self.slow_background_step)
        self.ledger.begin()
        self.limiter.begin(self._bounds.limit, self.ledger)
        self.backpressure: Backpressure = Backpressure(
            self.ledger, lambda: self._bounds, lambda: self.limiter.free, self.timers.call_later
        )
        self.reports: Reports = Reports(self.ledger, self.timers.call_later)
        self.hear()

    def gates(self) -> Sequence[Gate]:
        return [self.ledger.gate, self.pool.gate]

    def statistics(self) -> Statistics:
        return self.ledger.statistics(self.pool.overdue_count)

    @property
    def wait_timeout(self) -> float:
        return self._bounds.wait_timeout

    @property
    def close_timeout(self) -> float:
        return self._bounds.close_timeout

    # Who may run, and how many may wait.

    def submit(self, chain: Chain) -> None:
        """Start a chain, or keep it until there is room."""
        if chain.starter.is_shut:
            chain.abandon(CLOSED_RUNNER)
            return
        self.limiter.submit(chain)

    def refuse_overflow(self, name: str) -> None:
        if self._bounds.overflow == "raise":
            self.backpressure.refuse(name)

    async def wait_for_room(self, exchange: Exchange) -> None:
        await self.backpressure.wait(exchange)

    def limit_waiting(self, exchange: Exchange) -> None:
        if self.backpressure.check(exchange):
            self.limiter.trim()

    def timeout_of(self, callback: Callback[Any]) -> float | None:
        own = callback.options.timeout
        timeout = callback._timeout = self._bounds.timeout if own is None else own
        if timeout is not None and callback._returned is not None:
            # The function has used some of it, and its coroutine has the rest.
            timeout = max(0.0, timeout - self.ledger.running_for(callback))
        return timeout

    # What becomes of callbacks.

    def registered(self, callback: Callback[Any]) -> None:
        tell(self.ledger.hooks.registered, "registered", callback)

    def started(self, callback: Callback[Any]) -> None:
        if (room := self.ledger.room) is not None:
            room.open()
        if self.ledger.hooks.started:
            tell(self.ledger.hooks.started, "started", callback)

    def settled(self, callback: Callback[Any]) -> None:
        if self.limiter.lent:
            self.limiter.ended(callback)
        if (room := self.ledger.room) is not None:
            room.open()
        state = callback._state
        if state is CallbackState.DROPPED:
            losses = self.backpressure.losses if callback._reason is FULL else self.reports.losses
            losses.add(callback)
        elif state is not CallbackState.SUCCEEDED:
            log_ended(callback)
        if self.ledger.hooks.ended:
            tell(self.ledger.hooks.ended, "ended", callback)

    def slow_step(self, callback: Callback[Any], seconds: float) -> None:
        self.reports.slow_step(callback, seconds, self._bounds.slow_step)

    def slow_background_step(self, callback: Callback[Any], seconds: float) -> None:
        # One that has asked for this lane may block it.
        if callback.home != "background":
            limit = self._bounds.slow_step
            self.reports.slow_step(callback, seconds, limit, in_background=True)

    def hear(self) -> None:
        """Look who hears of callbacks, and what becomes of those for which there is no room."""
        self.ledger.timeout = self._bounds.timeout
        self.ledger.refuses = self._bounds.overflow == "raise"
        of_debug = [SlowOnes()] if conf.debug else []
        self.ledger.hooks = hooks_of([*of_debug, *self._bounds.instruments])
        self.ledger.hear()
