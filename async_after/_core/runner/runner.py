"""The runner, as its users see it: its bounds, and how to wait for it.

Promise 10, drained: ``aclose`` waits, cancels and ends in time; what it must
give up is DROPPED, and logged by name.
"""

import asyncio
from collections.abc import Sequence

from .. import conf
from ..capacity import Capacity, Statistics
from ..conf import Bounds, Overflow
from ..exchange import current_callback, current_exchange
from ..instrumentation import Instrument
from ..runtime import Pace, log, process
from .dispatch import LoopDispatcher, ThreadDispatcher
from .loops import Dispatchers
from .shutdown import Shutdown

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

    def statistics(self) -> Statistics:
        """How many callbacks are in which state, all at one moment."""
        return self.capacity.statistics()

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

    def detach(self) -> bool:
        """That app is gone; whether it was the last one, and the runner is to close."""
        return self._dispatchers.detach()

    # Shutdown.

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until no callback is pending or running; nothing else changes.

        Raises ``TimeoutError`` when that takes longer than ``timeout``
        seconds, and ``RuntimeError`` at once where it could never end: inside
        a callback, and in a request that has registered callbacks.
        """
        self._refuse_deadlock()
        self._dispatchers.abandon_closed()
        if not await self.capacity.ledger.wait_idle(timeout):
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
        self._refuse_deadlock()
        self._dispatchers.abandon_closed()
        await self.shutdown.aclose(self.capacity.wait_timeout)

    def close_at_exit(self, waited: float, goes_on: bool) -> None:
        """The same at the interpreter's exit, for what is left then, and less
        the seconds that were ``waited`` for other runners. ``goes_on``: the
        exit has been put off until this is done."""
        self.shutdown.at_exit(max(0.0, self.capacity.wait_timeout - waited), goes_on)

    def _refuse_deadlock(self) -> None:
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
        self._wrong_pace = Pace(1, 60.0)
        super().__init__()
        self.capacity.refresh = self._refresh
        conf.followers.append(self.capacity.follow)
        self.capacity.follow(conf.checked[2])

    def _refresh(self) -> None:
        try:
            conf.bounds()
        except Exception:
            if self._wrong_pace.is_due():
                message = "ASYNC_AFTER is wrong now: the last right settings are kept"
                log("exception", "settings_wrong", message)


_default: Runner | None = None


def get_runner() -> Runner:
    """The runner of this process, made when it is first asked for."""
    global _default
    if _default is None:
        with process.making:
            if _default is None:
                _default = _DefaultRunner()
    return _default
