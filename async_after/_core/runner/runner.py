"""The runner, as its users see it: its bounds, and how to wait for it.

Promise 10, drained: ``aclose`` waits, cancels and ends in time; what it must
give up is DROPPED, and logged by name.
"""

import asyncio
import math
from collections.abc import Generator, Sequence

from .. import conf
from ..capacity import Capacity
from ..conf import Bounds, Overflow
from ..exchange import Statistics, current_callback, current_exchange
from ..runtime import Gate, clock, process
from .dispatch import OVERDUE, Dispatcher, LoopDispatcher
from .loops import Dispatchers
from .shutdown import Shutdown
from .thread_dispatch import ThreadDispatcher

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
    ``instruments``: who else hears of callbacks besides the log (``Instrument``):
    objects, classes or dotted paths. Raises ``TypeError`` or ``ValueError`` for anything else.
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
        instruments: Sequence[object] = (),
    ) -> None:
        bounds = Bounds(
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
        self.capacity: Capacity = Capacity(bounds)
        self.capacity.owner = self
        self._dispatchers = Dispatchers(self.capacity)
        self.shutdown: Shutdown = Shutdown(self.capacity, self._dispatchers)
        process.look_after(self)

    def begin_life(self) -> None:
        """Forget all, in a process that was forked off."""
        self.capacity.begin_life()
        self._dispatchers.begin()
        self.shutdown = Shutdown(self.capacity, self._dispatchers)

    def follow_settings(self) -> None:
        """They have changed. The bounds of a runner of one's own are fixed."""
        self.capacity.hear()

    def gates(self) -> Sequence[Gate]:
        """Those that a fork takes, so that nothing is half done in the child."""
        return self.capacity.gates()

    def statistics(self) -> Statistics:
        """How many callbacks are in which state, all at one moment."""
        return self.capacity.statistics()

    def __repr__(self) -> str:
        seen, capacity = self.statistics(), self.capacity
        closing = " closing" if all(d.is_closing for d in self._dispatchers.all()) else ""
        return (
            f"<Runner{closing} open_exchanges={seen.open_exchanges} waiting={seen.waiting}"
            f" running={seen.running} overdue={seen.overdue} slots={capacity.limiter.used}/"
            f"{capacity.limiter.limit} threads={capacity.pool.count}/{capacity.pool.size}>"
        )

    # For the adapters.

    def dispatcher(self, loop: asyncio.AbstractEventLoop) -> LoopDispatcher:
        """Who runs the callbacks of exchanges on this loop."""
        return self._dispatchers.of(loop)

    def thread_dispatcher(self) -> ThreadDispatcher:
        """Who runs the callbacks of exchanges that have no loop."""
        return self._dispatchers.of_threads()

    @property
    def threads(self) -> ThreadDispatcher:
        """The same, though it may be closed."""
        return self._dispatchers.threads

    def attach(self) -> None:
        """An app that uses this runner has started (``lifespan.startup``)."""
        self._dispatchers.attach(asyncio.get_running_loop())

    def detach(self, loop: asyncio.AbstractEventLoop | None = None) -> Sequence[Dispatcher]:
        """That app is gone, which had started on this loop, by default the running one;
        whose callbacks end with it, for ``close``."""
        return self._dispatchers.detach(loop or asyncio.get_running_loop())

    # Shutdown.

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until no callback is pending or running; nothing else changes.

        Raises ``TimeoutError`` when that takes longer than ``timeout``
        seconds, and ``RuntimeError`` at once where it could never end: inside
        a callback, and in a request that has registered callbacks. ``TypeError``
        or ``ValueError`` for a timeout that nobody can wait.
        """
        clock.refuse_timeout("drain", timeout)
        self._refuse_deadlock()
        self._dispatchers.abandon_closed()
        seconds = math.inf if timeout is None else timeout
        self._dispatchers.mend()
        while not (is_idle := await self.capacity.ledger.wait_idle(min(seconds, OVERDUE))):
            seconds -= OVERDUE
            if seconds <= 0:
                break
            self._dispatchers.mend()
        if not is_idle:
            left = len(self.capacity.ledger.exchanges())
            raise TimeoutError(
                f"the runner was not idle after {timeout} s: {left} exchange(s) have callbacks"
                " pending or running"
            )

    async def aclose(self) -> None:
        """Shut down: wait up to ``wait_timeout`` seconds, then cancel what runs
        and drop what waits, then wait up to ``close_timeout`` seconds more.

        Each callback that is lost is DROPPED and logged by name, at once if
        this is cancelled. The runner works again on another event loop, or
        after the next ``lifespan.startup``.
        """
        await self.close(self._dispatchers.all())

    async def close(self, closing: Sequence[Dispatcher]) -> None:
        """``aclose``, of the callbacks of these."""
        self._refuse_deadlock()
        self._dispatchers.abandon_closed()
        await self.shutdown.aclose(self.capacity.wait_timeout, closing)

    def close_at_exit(self, began: float, goes_on: bool) -> Generator[None, float, None]:
        """The same at the interpreter's exit, for what is left then (``process.close``)."""
        return self.shutdown.at_exit(began, goes_on)

    def _refuse_deadlock(self) -> None:
        if process.is_inside():
            raise RuntimeError(
                "waiting for the runner here would never end: this is called in the middle of a"
                " registration or an end, by a destructor or a signal handler, and all others"
                " wait for that. Wait in a task or a thread of its own."
            )
        callback = current_callback.get()
        if callback is not None and self.capacity.ledger.is_running(callback):
            raise RuntimeError(
                f"waiting for the runner inside its callback {callback.name} would never end"
            )
        exchange = current_exchange.get()
        while exchange is not None:
            if self.capacity.ledger.holds(exchange) and not exchange.is_ended:
                raise RuntimeError(
                    f"waiting for the runner inside {exchange.label()} would never end: its"
                    " callbacks run when it is over. Wait outside of requests and scopes that have"
                    " registered callbacks."
                )
            exchange = exchange.parent


class _DefaultRunner(Runner):
    """The runner of the process: its bounds are the settings, at any time.

    Wrong settings are refused where they enter, at start-up and where a
    callback is registered. Should they become wrong while callbacks are under
    way, those still run, within the last bounds that were right.
    """

    def __init__(self) -> None:
        super().__init__()
        self.follow_settings()

    def follow_settings(self) -> None:
        self.capacity.follow(conf.last_right())


_default: Runner | None = None
_made: list[Runner] = []
"""The first is the default one. (Who comes back in while one is made may make another.)"""


def get_runner() -> Runner:
    """The runner of this process, made when it is first asked for."""
    global _default
    if _default is None:
        with process.making:
            if not _made:
                _made.append(_DefaultRunner())
            _default = _made[0]
    return _default
