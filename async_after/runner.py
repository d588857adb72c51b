"""Starts callbacks, bounds them, and waits for them at shutdown.

Promise 9, bounded: at most ``limit`` at once. A chain of sequential callbacks
takes one slot, each concurrent callback one of its own. At most
``pending_limit`` of finished exchanges wait, or ``overflow`` says what then.
Promise 10, drained: ``aclose`` waits, cancels and ends in time; what it must
give up is DROPPED, and logged by name.
"""

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

from . import conf, lifetime
from .background import BackgroundLoop
from .books import Books, Statistics
from .callback import Callback, CallbackState
from .conf import Bounds, Overflow
from .dispatch import CLOSED_RUNNER, Dispatcher, LoopDispatcher, ThreadDispatcher, Unit
from .exchange import Exchange, current_callback, current_exchange
from .instrumentation import Instrument, log, log_ended, logger, tell
from .line import Line
from .reports import Reports
from .room import FULL, Room
from .threads import WorkerPool
from .timers import Timers

_DEFAULT = Bounds()

_SAME_SHUTDOWN = 5.0
"""Seconds between the end of a server's waiting and the exit of its process."""


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
            wait_timeout=wait_timeout,
            close_timeout=close_timeout,
            instruments=instruments,
        )
        self.begin_life()
        lifetime.look_after(self)

    def begin_life(self) -> None:
        """Nothing runs and nothing waits: in a new runner, and in a process
        that was forked off, which has none of the threads of its parent."""
        self.pool: WorkerPool = WorkerPool(lambda: self._bounds.max_threads)
        self.timers: Timers = Timers()
        self.background: BackgroundLoop = BackgroundLoop(self.pool)
        self.books: Books = Books()
        self._line = Line(lambda: self._bounds.limit)
        self._room = Room(self.books, lambda: self._bounds, self.timers.call_later)
        self.reports: Reports = Reports(self.books, self.timers.call_later)
        self._lock = threading.Lock()
        self._loops: dict[asyncio.AbstractEventLoop, LoopDispatcher] = {}
        self.threads: ThreadDispatcher = ThreadDispatcher(self)
        self._apps = 0
        self._wait_over: float | None = None

    def statistics(self) -> Statistics:
        """How many callbacks are in which state, all at one moment."""
        return self.books.statistics(self.pool.overdue_count)

    # For the adapters.

    def dispatcher(self, loop: asyncio.AbstractEventLoop) -> LoopDispatcher:
        """Who runs the callbacks of exchanges on this loop."""
        dispatcher = self._loops.get(loop)
        if dispatcher is None:
            for other in [*self._loops]:
                if other.is_closed():
                    gone = self._loops.pop(other, None)
                    if gone is not None:
                        gone.lane.abandon()
            dispatcher = self._loops[loop] = LoopDispatcher(self, loop)
        return dispatcher

    def thread_dispatcher(self) -> ThreadDispatcher:
        """Who runs the callbacks of exchanges that have no loop."""
        if self.threads.is_shut:
            # A new exchange is a sign of life, and there is no other without a loop.
            self.threads = ThreadDispatcher(self)
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

    @property
    def wait_timeout(self) -> float:
        self._refresh()
        return self._bounds.wait_timeout

    def begin_waiting(self, seconds: float) -> None:
        """Somebody waits so long for all callbacks, most likely as the process
        is about to end: at its exit it is not waited for a second time."""
        self._wait_over = time.monotonic() + seconds

    def end_waiting(self) -> None:
        """They have all ended."""
        self._wait_over = None

    # For dispatchers and units (``dispatch.Slots``).

    def submit(self, unit: Unit) -> None:
        """Start a unit, or keep it until there is room."""
        if unit.is_closed():
            unit.abandon(CLOSED_RUNNER)
            return
        self._refresh()
        self._line.submit(unit)

    def release(self) -> None:
        self._line.release()

    def lending(self, callback: Callback[Any]) -> AbstractContextManager[None]:
        return self._line.lending(callback)

    def refuse_overflow(self, name: str) -> None:
        self._refresh()
        if self._bounds.overflow == "raise":
            self._room.refuse(name)

    async def wait_for_room(self) -> None:
        await self._room.wait()

    def limit_waiting(self, exchange: Exchange) -> None:
        if self._room.check(exchange):
            self._line.trim()

    def timeout_of(self, callback: Callback[Any]) -> float | None:
        own = callback.options.timeout
        callback._timeout = self._bounds.timeout if own is None else own
        return callback._timeout

    # What becomes of callbacks.

    def registered(self, callback: Callback[Any]) -> None:
        if self._bounds.instruments:
            tell(self._bounds.instruments, "registered", callback)

    def started(self, callback: Callback[Any]) -> None:
        if self._room.is_awaited:
            self._room.look()
        if self._bounds.instruments:
            tell(self._bounds.instruments, "started", callback)

    def settled(self, callback: Callback[Any]) -> None:
        if self._line.lent:
            self._line.ended(callback)
        if self._room.is_awaited:
            self._room.look()
        if callback.state is CallbackState.DROPPED:
            losses = self._room.losses if callback._reason is FULL else self.reports.losses
            losses.add(callback)
        elif callback.state is not CallbackState.SUCCEEDED:
            log_ended(callback)
        if self._bounds.instruments:
            tell(self._bounds.instruments, "ended", callback)

    def slow_step(self, callback: Callback[Any], seconds: float) -> None:
        self.reports.slow_step(callback, seconds, self._bounds.slow_step)

    def _refresh(self) -> None:
        """Look what the bounds are now. Those of a runner of one's own are fixed."""

    # Shutdown.

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until no callback is pending or running; nothing else changes.

        Raises ``TimeoutError`` when that takes longer than ``timeout``
        seconds, and ``RuntimeError`` at once where it could never end: inside
        a callback, and in a request that has registered callbacks.
        """
        self._refuse_deadlock()
        if not await self.books.wait_idle(timeout):
            raise TimeoutError(
                f"the runner was not idle after {timeout} s: {len(self.books.exchanges())}"
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
        await self._close(self.wait_timeout)

    async def _close(self, wait_timeout: float) -> None:
        closing = self._begin_closing(wait_timeout)
        before = self.statistics().dropped
        try:
            if not await self.books.wait_until(self._is_over, wait_timeout):
                self._give_up(closing)
                await self.books.wait_until(self._is_over, self._bounds.close_timeout)
        finally:
            self._end_closing(closing, before)

    def close_at_exit(self) -> None:
        """The same at the interpreter's exit, for what is left then."""
        can_end = lifetime.has_other_threads()
        resting = [d for d in [*self._loops.values()] if not d.loop.is_running()]
        for exchange in self.books.exchanges():
            if not exchange.is_ended and (exchange.host in resting or not can_end):
                self._drop_pending(exchange, "the process ended before the response did")
        wait_timeout = self._bounds.wait_timeout
        if self._wait_over is not None:
            left = self._wait_over - time.monotonic()
            if left > -_SAME_SHUTDOWN:
                wait_timeout = min(max(left, 0.0), wait_timeout)
        for dispatcher in resting:
            # Stopped, as Twisted stops daphne's, and not closed: it can go on.
            has_some = any(exchange.host is dispatcher for exchange in self.books.exchanges())
            if has_some and not dispatcher.loop.is_closed():
                _run(dispatcher.loop, self._close(wait_timeout))
            dispatcher.lane.abandon()
        closing = self._begin_closing(wait_timeout)
        before = self.statistics().dropped
        try:
            if not self.books.wait_idle_in_thread(wait_timeout):
                self._give_up(closing)
                self.books.wait_idle_in_thread(self._bounds.close_timeout)
        finally:
            self._end_closing(closing, before)

    def _begin_closing(self, wait_timeout: float) -> list[Dispatcher]:
        """Those that are closed: who comes later begins another life."""
        exchanges = self.books.exchanges()
        if exchanges:
            log(
                "info",
                "shutdown: waiting up to %.1f s for the callbacks of %s exchange(s)",
                wait_timeout,
                len(exchanges),
            )
        with self._lock:
            closing: list[Dispatcher] = [*self._loops.values(), self.threads]
            for dispatcher in closing:
                dispatcher.is_closing = True
        return closing

    def _is_over(self) -> bool:
        return not self._left()

    def _left(self) -> list[Exchange]:
        """The exchanges that are being closed, and have unsettled callbacks."""
        with self._lock:
            others = [d for d in (*self._loops.values(), self.threads) if not d.is_closing]
        return [exchange for exchange in self.books.exchanges() if exchange.host not in others]

    def _give_up(self, closing: list[Dispatcher]) -> None:
        """Drop what waits, and cancel what runs."""
        for dispatcher in closing:
            dispatcher.is_shut = True
        reason = f"shutdown: it had not started within wait_timeout={self._bounds.wait_timeout} s"
        for exchange in self._left():
            self._drop_pending(exchange, reason)
        for unit in self._line.take_closed():
            unit.abandon(reason)
        reason = f"shutdown: it had not ended within wait_timeout={self._bounds.wait_timeout} s"
        for callback in self._running_of(self._left()):
            callback._owner.stop(callback, CallbackState.DROPPED, reason)

    def _running_of(self, exchanges: Sequence[Exchange]) -> list[Callback[Any]]:
        owners: set[object] = {*exchanges}
        return [callback for callback in self.books.running() if callback._owner in owners]

    def _end_closing(self, closing: list[Dispatcher], dropped_before: int) -> None:
        """Nothing is waited for any more."""
        if self._left():
            self._give_up(closing)
            reason = "shutdown: it had not ended when the time was up"
            for callback in self._running_of(self._left()):
                callback._owner.drop(callback, reason)
        for dispatcher in closing:
            dispatcher.is_shut = True
        self._room.losses.say_rest()
        self.reports.losses.say_rest()
        dropped = self.statistics().dropped - dropped_before
        if dropped:
            log("error", "shutdown: %s callback(s) were lost, as named above", dropped)
        if not self.books.exchanges():
            self.pool.close()
            self.background.close()
            self.timers.hurry()

    def _drop_pending(self, exchange: Exchange, reason: str) -> None:
        for callback in exchange.pending():
            exchange.drop(callback, reason, if_pending=True)

    def _refuse_deadlock(self) -> None:
        callback = current_callback.get()
        if callback is not None and self.books.is_running(callback):
            raise RuntimeError(
                f"waiting for the runner inside its callback {callback.name} would never end"
            )
        exchange = current_exchange.get()
        while exchange is not None:
            if self.books.holds(exchange) and not exchange.is_ended:
                raise RuntimeError(
                    f"waiting for the runner inside {exchange.label()} would never end: its"
                    " callbacks run after its response"
                )
            exchange = exchange.parent


def _run(loop: asyncio.AbstractEventLoop, closing: Coroutine[Any, Any, None]) -> None:
    """Run it on a loop that was stopped, and in which others may want it stopped again."""
    task = loop.create_task(closing)
    for _ in range(100):
        with suppress(RuntimeError):  # stopped before the end
            loop.run_until_complete(task)
        if task.done():
            return


class _DefaultRunner(Runner):
    """The runner of the process: its bounds are the settings, at any time.

    Wrong settings are refused where they enter, at start-up and where a
    callback is registered. Should they become wrong while callbacks are under
    way, those still run, within the last bounds that were right.
    """

    def registered(self, callback: Callback[Any]) -> None:
        self._refresh()
        super().registered(callback)

    def _refresh(self) -> None:
        try:
            self._bounds = conf.bounds()
        except Exception:
            logger.exception("the last right settings are kept")


_default: Runner | None = None


def get_runner() -> Runner:
    """The runner of this process, made when it is first asked for."""
    global _default
    if _default is None:
        with lifetime.making:
            if _default is None:
                _default = _DefaultRunner()
    return _default
