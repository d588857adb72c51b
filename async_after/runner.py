"""Starts callbacks, bounds them, and waits for them at shutdown.

Promise 9, bounded: at most ``limit`` at once. A chain of sequential callbacks
takes one slot, each concurrent callback one of its own.
Promise 10, drained: ``aclose`` waits, cancels and ends in time; what it must
give up is DROPPED, and logged by name.
"""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from . import conf
from .callback import Callback, CallbackState
from .conf import Bounds
from .dispatch import LoopDispatcher, ThreadDispatcher, Unit
from .exchange import Exchange, current_callback, current_exchange
from .instrumentation import Instrument, log_ended, logger, tell
from .threads import WorkerPool
from .timers import Timers
from .waiting import Latch

_DEFAULT = Bounds()


class Runner:
    """Runs the callbacks of any number of apps; one per process by default.

    ``limit``: callbacks that run at once. ``max_threads``: worker threads for
    plain functions. ``timeout``: seconds a callback may take if it does not
    say otherwise, ``None`` for no end. ``wait_timeout`` and ``close_timeout``:
    seconds that the shutdown waits for callbacks to end by themselves, and
    then for the cancelled ones. ``instruments``: who else hears of callbacks
    besides the log. Raises ``TypeError`` or ``ValueError`` for anything else.
    """

    def __init__(
        self,
        *,
        limit: int = _DEFAULT.limit,
        max_threads: int = _DEFAULT.max_threads,
        timeout: float | None = _DEFAULT.timeout,
        wait_timeout: float = _DEFAULT.wait_timeout,
        close_timeout: float = _DEFAULT.close_timeout,
        instruments: Sequence[Instrument] = (),
    ) -> None:
        self._bounds = Bounds(
            limit=limit,
            max_threads=max_threads,
            timeout=timeout,
            wait_timeout=wait_timeout,
            close_timeout=close_timeout,
            instruments=instruments,
        )
        self.pool: WorkerPool = WorkerPool(lambda: self._bounds.max_threads)
        self.timers: Timers = Timers()
        self._lock = threading.Lock()
        self._used = 0
        self._waiting: deque[Unit] = deque()
        self._lent: Counter[Callback[Any]] = Counter()
        self._running: set[Callback[Any]] = set()
        self._exchanges: set[Exchange] = set()
        """Those with unsettled callbacks, open or ended."""
        self._idle: Latch | None = None
        self._loops: dict[asyncio.AbstractEventLoop, LoopDispatcher] = {}
        self._threads = ThreadDispatcher(self)
        self._apps = 0
        self.is_closed: bool = False

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
            # A new loop is a new life: a runner is closed for those it served.
            self.is_closed = False
        return dispatcher

    def thread_dispatcher(self) -> ThreadDispatcher:
        """Who runs the callbacks of exchanges that have no loop."""
        # A new exchange is a sign of life, and there is no other without a loop.
        self.is_closed = False
        return self._threads

    def attach(self) -> None:
        """An app that uses this runner has started (``lifespan.startup``)."""
        with self._lock:
            self._apps += 1
            self.is_closed = False

    def detach(self) -> bool:
        """That app is gone; whether it was the last one, and the runner is to close."""
        with self._lock:
            self._apps -= 1
            return self._apps == 0

    @property
    def wait_timeout(self) -> float:
        self._refresh()
        return self._bounds.wait_timeout

    # Slots (``dispatch.Slots``).

    def submit(self, unit: Unit) -> None:
        """Start a unit, or keep it until there is room."""
        if self.is_closed:
            unit.drop()
            return
        self._refresh()
        limit = self._bounds.limit
        ready: list[Unit] = []
        with self._lock:
            # Those that wait go first: settings may have made room for more.
            self._waiting.append(unit)
            while self._waiting and (self._used < limit or self.is_closed):
                self._used += 1
                ready.append(self._waiting.popleft())
        for unit in ready:
            unit.advance()

    def release(self) -> None:
        """A slot is free: for the next unit that has something to start."""
        limit = self._bounds.limit
        while True:
            with self._lock:
                if not self._waiting or self._used > limit:
                    self._used -= 1
                    return
                unit = self._waiting.popleft()
            if unit.go():
                return

    def timeout_of(self, callback: Callback[Any]) -> float | None:
        own = callback.options.timeout
        callback._timeout = self._bounds.timeout if own is None else own
        return callback._timeout

    @contextmanager
    def lending(self, callback: Callback[Any]) -> Iterator[None]:
        """A callback that only waits for another one lends its slot, or a full
        runner would never get to the one waited for. Its tasks may wait for
        several at once: it has one slot to lend."""
        with self._lock:
            self._lent[callback] += 1
            lends = self._lent[callback] == 1
        if lends:
            self.release()
        try:
            yield
        finally:
            with self._lock:
                if callback in self._lent:
                    self._lent[callback] -= 1
                    if not self._lent[callback]:
                        del self._lent[callback]
                        self._used += 1

    # Books.

    def admit(self, exchange: Exchange, first: bool) -> None:
        if first:
            with self._lock:
                self._exchanges.add(exchange)

    def registered(self, callback: Callback[Any]) -> None:
        if self._bounds.instruments:
            self._tell("registered", callback)

    def started(self, callback: Callback[Any]) -> None:
        self._running.add(callback)
        if self._bounds.instruments:
            self._tell("started", callback)

    def settled(self, callback: Callback[Any]) -> None:
        self._running.discard(callback)
        if self._lent:
            with self._lock:
                # Whoever still waits in its name has no slot to take back.
                self._used += 1 if self._lent.pop(callback, 0) else 0
        if callback.state is not CallbackState.SUCCEEDED:
            log_ended(callback)
        if self._bounds.instruments:
            self._tell("ended", callback)

    def _tell(self, event: str, callback: Callback[Any]) -> None:
        tell(self._bounds.instruments, event, callback)

    def idle(self, exchange: Exchange) -> None:
        with self._lock:
            self._exchanges.discard(exchange)
            if self._exchanges or self._idle is None:
                return
            latch, self._idle = self._idle, None
        latch.open()

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
        if not await self.wait_idle(timeout):
            with self._lock:
                count = len(self._exchanges)
            raise TimeoutError(
                f"the runner was not idle after {timeout} s:"
                f" {count} exchange(s) have callbacks pending or running"
            )

    async def aclose(self) -> None:
        """Shut down: wait up to ``wait_timeout`` seconds, then cancel what runs
        and drop what waits, then wait up to ``close_timeout`` seconds more.

        Each callback that is lost is DROPPED and logged by name. The runner
        works again on another event loop, or after the next ``lifespan.startup``.
        """
        self._refuse_deadlock()
        if self._exchanges:
            logger.info(
                "shutdown: waiting up to %s s for the callbacks of %s exchange(s)",
                self.wait_timeout,
                len(self._exchanges),
            )
        if not await self.wait_idle(self.wait_timeout):
            with self._lock:
                self.is_closed = True
                waiting, self._waiting = self._waiting, deque()
                running, exchanges = self._running.copy(), [*self._exchanges]
            for unit in waiting:
                unit.drop()
            for exchange in exchanges:
                self._drop(exchange)
            for callback in running:
                callback._owner.stop(callback, CallbackState.DROPPED)
            if not await self.wait_idle(self._bounds.close_timeout):
                for callback in self._running.copy():
                    callback._owner.settle(callback, CallbackState.DROPPED)
        self.is_closed = True
        self.pool.close()

    async def wait_idle(self, timeout: float | None) -> bool:
        """Wait up to ``timeout`` seconds; whether nothing is pending or running."""
        with self._lock:
            if not self._exchanges:
                return True
            latch = self._idle
            if latch is None:
                latch = self._idle = Latch()
        return await latch.wait(timeout)

    def unsettled(self) -> list[Callback[Any]]:
        """All that are pending or running."""
        with self._lock:
            exchanges = [*self._exchanges]
        return [*self._running.copy(), *(c for e in exchanges for c in e.pending())]

    def _drop(self, exchange: Exchange) -> None:
        for callback in exchange.pending():
            exchange.settle(callback, CallbackState.DROPPED, expected=CallbackState.PENDING)

    def _refuse_deadlock(self) -> None:
        callback = current_callback.get()
        if callback is not None and callback in self._running:
            raise RuntimeError(
                f"waiting for the runner inside its callback {callback.name} would never end"
            )
        exchange = current_exchange.get()
        while exchange is not None:
            if exchange in self._exchanges and not exchange.is_ended:
                raise RuntimeError(
                    f"waiting for the runner inside {exchange.label()} would never end: its"
                    " callbacks run after its response"
                )
            exchange = exchange.parent


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
_making = threading.Lock()


def get_runner() -> Runner:
    """The runner of this process, made when it is first asked for."""
    global _default
    if _default is None:
        with _making:
            if _default is None:
                _default = _DefaultRunner()
    return _default
