"""Starts callbacks, bounds them, and waits for them at shutdown.

Promise 9, bounded: at most ``limit`` at once. A chain of sequential callbacks
takes one slot, each concurrent callback one of its own. At most
``pending_limit`` of finished exchanges wait, or ``overflow`` says what then.
Promise 10, drained: ``aclose`` waits, cancels and ends in time; what it must
give up is DROPPED, and logged by name.
"""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from ..conf import Bounds, Overflow
from ..exchange import (
    SUCCEEDED,
    Callback,
    CallbackState,
    Exchange,
    current_callback,
    current_exchange,
)
from ..instrumentation import Instrument, log_ended, tell
from ..lanes import BackgroundLoop, WorkerPool
from ..runtime import SwitchInterval, Timers, is_debug, process
from .chains import CLOSED_RUNNER, Chain
from .dispatcher import Dispatcher, LoopDispatcher, ThreadDispatcher
from .ledger import Ledger, Statistics
from .overflow import FULL, Backpressure
from .reports import Reports
from .shutdown import Shutdown
from .slots import Slots

_DEFAULT = Bounds()


class Runner:
    """Runs the callbacks of any number of apps; one per process by default.

    ``limit``: callbacks that run at once. ``max_threads``: worker threads for
    plain functions. ``pending_limit``: callbacks of finished responses that
    wait to start. ``overflow``: what happens over that limit; ``"wait"`` keeps
    them, and ``aafter_response`` waits for room; ``"drop"`` drops the newest;
    ``"raise"`` makes ``after_response`` raise ``RunnerFull``. ``timeout``:
    seconds a callback may take if it does not say otherwise, ``None`` for no
    end. ``slow_step``: seconds after which a step of a coroutine function that
    blocks the event loop is named in the log, ``None`` for never.
    ``switch_interval``: seconds after which a thread that computes must let
    others go on, while plain functions run in threads; ``None`` for what the
    interpreter has (``sys.setswitchinterval``).
    ``wait_timeout`` and ``close_timeout``: seconds that the shutdown waits for
    callbacks to end by themselves, and then for the cancelled ones.
    ``instruments``: who else hears of callbacks besides the log. Raises
    ``TypeError`` or ``ValueError`` for anything else.
    """

    def __init__(
        self,
        *,
        limit: int = _DEFAULT.limit,
        max_threads: int = _DEFAULT.max_threads,
        pending_limit: int = _DEFAULT.pending_limit,
        overflow: Overflow = _DEFAULT.overflow,
        timeout: float | None = _DEFAULT.timeout,
        slow_step: float | None = _DEFAULT.slow_step,
        switch_interval: float | None = _DEFAULT.switch_interval,
        wait_timeout: float = _DEFAULT.wait_timeout,
        close_timeout: float = _DEFAULT.close_timeout,
        instruments: Sequence[Instrument] = (),
    ) -> None:
        self._bounds = Bounds(
            limit=limit,
            max_threads=max_threads,
            pending_limit=pending_limit,
            overflow=overflow,
            timeout=timeout,
            slow_step=slow_step,
            switch_interval=switch_interval,
            wait_timeout=wait_timeout,
            close_timeout=close_timeout,
            instruments=instruments,
        )
        self.ledger: Ledger = Ledger()
        self.begin_life()
        process.look_after(self)

    def begin_life(self) -> None:
        """Nothing runs and nothing waits: in a new runner, and in a process
        that was forked off, which has none of the threads of its parent."""
        switching = SwitchInterval(lambda: self._bounds.switch_interval)
        self.pool: WorkerPool = WorkerPool(lambda: self._bounds.max_threads, switching)
        self.timers: Timers = Timers()
        # Not those: they call handlers and instruments of the user's at length. It lingers
        # as long as requests come, as a new thread would cost each of them.
        self.starts: Timers = Timers(linger=1.0)
        self.background: BackgroundLoop = BackgroundLoop(self.pool, self.slow_background_step)
        self.ledger.begin()
        self.slots: Slots = Slots(lambda: self._bounds.limit)
        self.backpressure: Backpressure = Backpressure(
            self.ledger, lambda: self._bounds, self.timers.call_later
        )
        self.reports: Reports = Reports(self.ledger, self.timers.call_later)
        self._lock = threading.Lock()
        self._loops: dict[asyncio.AbstractEventLoop, LoopDispatcher] = {}
        self.threads: ThreadDispatcher = ThreadDispatcher(self)
        self._apps = 0
        self.shutdown: Shutdown = Shutdown(self)

    def statistics(self) -> Statistics:
        """How many callbacks are in which state, all at one moment."""
        return self.ledger.statistics(self.pool.overdue_count)

    # For the adapters.

    def dispatcher(self, loop: asyncio.AbstractEventLoop) -> LoopDispatcher:
        """Who runs the callbacks of exchanges on this loop."""
        dispatcher = self._loops.get(loop)
        if dispatcher is None:
            self._abandon_closed()
            dispatcher = self._loops[loop] = LoopDispatcher(self, loop)
            self.pool.open()
        return dispatcher

    def _abandon_closed(self) -> None:
        """Account for what loops had not ended when they were closed."""
        for loop in [*self._loops]:
            if loop.is_closed():
                gone = self._loops.pop(loop, None)
                if gone is not None:
                    gone.abandon()

    def reopen(self, closed: Sequence[Dispatcher]) -> None:
        """The loops of these go on: what they register later is another life."""
        with self._lock:
            for dispatcher in closed:
                is_known = [loop for loop, known in self._loops.items() if known is dispatcher]
                for loop in is_known:
                    del self._loops[loop]

    def thread_dispatcher(self) -> ThreadDispatcher:
        """Who runs the callbacks of exchanges that have no loop."""
        if self.threads.is_shut:
            # A new exchange is a sign of life, and there is no other without a loop.
            self.threads = ThreadDispatcher(self)
            self.pool.open()
        return self.threads

    def attach(self) -> None:
        """An app that uses this runner has started (``lifespan.startup``)."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._apps += 1
            if loop in self._loops and self._loops[loop].is_closing:
                # What is being closed, or was, stays so: this is another life.
                del self._loops[loop]

    def detach(self) -> bool:
        """That app is gone; whether it was the last one, and the runner is to close."""
        with self._lock:
            self._apps -= 1
            return self._apps == 0

    def dispatchers(self) -> list[Dispatcher]:
        """Those of all loops, and that of the threads."""
        with self._lock:
            return [*self._loops.values(), self.threads]

    @property
    def wait_timeout(self) -> float:
        self.refresh()
        return self._bounds.wait_timeout

    @property
    def close_timeout(self) -> float:
        return self._bounds.close_timeout

    # For dispatchers and units (``dispatch.Slots``).

    def submit(self, chain: Chain) -> None:
        """Start a unit, or keep it until there is room."""
        if chain.is_closed():
            chain.abandon(CLOSED_RUNNER)
            return
        self.refresh()
        self.slots.submit(chain)

    def release(self) -> None:
        self.slots.release()

    def lending(self, callback: Callback[Any]) -> AbstractContextManager[None]:
        return self.slots.lending(callback)

    def refuse_overflow(self, name: str) -> None:
        if self._bounds.overflow == "raise":
            self.backpressure.refuse(name)

    async def wait_for_room(self) -> None:
        await self.backpressure.wait()

    def limit_waiting(self, exchange: Exchange) -> None:
        if self.backpressure.check(exchange):
            self.slots.trim()

    def timeout_of(self, callback: Callback[Any]) -> float | None:
        own = callback.options.timeout
        timeout = callback._timeout = self._bounds.timeout if own is None else own
        if timeout is not None and callback._returned is not None:
            # The function has used some of it, and its coroutine has the rest.
            timeout = max(0.0, timeout - self.ledger.running_for(callback))
        return timeout

    # What becomes of callbacks.

    def registered(self, callback: Callback[Any]) -> None:
        if self._bounds.instruments:
            tell(self._bounds.instruments, "registered", callback)

    def started(self, callback: Callback[Any]) -> None:
        if is_debug():
            self.reports.started(callback)
        if self.backpressure.is_awaited:
            self.backpressure.look()
        if self._bounds.instruments:
            tell(self._bounds.instruments, "started", callback)

    def settled(self, callback: Callback[Any]) -> None:
        if self.reports.began:
            self.reports.settled(callback)
        if self.slots.lent:
            self.slots.ended(callback)
        if self.backpressure.is_awaited:
            self.backpressure.look()
        state = callback._state
        if state is CallbackState.DROPPED:
            losses = self.backpressure.losses if callback._reason is FULL else self.reports.losses
            losses.add(callback)
        elif state is not SUCCEEDED:
            log_ended(callback)
        if self._bounds.instruments:
            tell(self._bounds.instruments, "ended", callback)

    def slow_step(self, callback: Callback[Any], seconds: float) -> None:
        self.reports.slow_step(callback, seconds, self._bounds.slow_step)

    def slow_background_step(self, callback: Callback[Any], seconds: float) -> None:
        # One that has asked for this lane may block it.
        if callback.home != "background":
            limit = self._bounds.slow_step
            self.reports.slow_step(callback, seconds, limit, in_background=True)

    def refresh(self) -> None:
        """Look what the bounds are now. Those of a runner of one's own are fixed."""

    # Shutdown.

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until no callback is pending or running; nothing else changes.

        Raises ``TimeoutError`` when that takes longer than ``timeout``
        seconds, and ``RuntimeError`` at once where it could never end: inside
        a callback, and in a request that has registered callbacks.
        """
        self._refuse_deadlock()
        self._abandon_closed()
        if not await self.ledger.wait_idle(timeout):
            raise TimeoutError(
                f"the runner was not idle after {timeout} s: {len(self.ledger.exchanges())}"
                " exchange(s) have callbacks pending or running"
            )

    async def aclose(self) -> None:
        """Shut down: wait up to ``wait_timeout`` seconds, then cancel what runs
        and drop what waits, then wait up to ``close_timeout`` seconds more.

        Each callback that is lost is DROPPED and logged by name, at once if
        this is cancelled. The runner works again on another event loop, or
        after the next ``lifespan.startup``.
        """
        self._refuse_deadlock()
        self._abandon_closed()
        await self.shutdown.aclose(self.wait_timeout)

    def close_at_exit(self, waited: float, goes_on: bool) -> None:
        """The same at the interpreter's exit, for what is left then, and less
        the seconds that were ``waited`` for other runners. ``goes_on``: the
        exit has been put off until this is done."""
        self.shutdown.at_exit(max(0.0, self.wait_timeout - waited), goes_on)

    def _refuse_deadlock(self) -> None:
        callback = current_callback.get()
        if callback is not None and self.ledger.is_running(callback):
            raise RuntimeError(
                f"waiting for the runner inside its callback {callback.name} would never end"
            )
        exchange = current_exchange.get()
        while exchange is not None:
            if self.ledger.holds(exchange) and not exchange.is_ended:
                raise RuntimeError(
                    f"waiting for the runner inside {exchange.label()} would never end: its"
                    " callbacks run when it is over. Wait outside of requests and scopes that have"
                    " registered callbacks."
                )
            exchange = exchange.parent
