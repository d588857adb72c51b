"""What happens when more callbacks wait than may: ``overflow``.

Promise 9, bounded: ``pending_limit`` is about the pending callbacks of
finished exchanges. Those of an open one make nobody wait, and are no overflow.
"""

import threading
from collections.abc import Callable

from ..conf import Bounds
from ..exchange import Exchange, current_callback
from ..runtime import Latch, Pace, log
from .ledger import Ledger
from .reports import Later, Losses

STALLED = 5.0
"""Seconds in which no callback has begun, after which nobody waits for room:
those that hold the slots may be waiting for the one that waits here."""

FULL = "the runner is full, and more would wait than pending_limit allows"
"""Why callbacks are dropped here."""


class RunnerFull(RuntimeError):
    """With ``overflow="raise"``: too many callbacks wait, and one more is refused."""

    __module__ = "async_after"


class Backpressure:
    """The room for waiting callbacks."""

    def __init__(self, ledger: Ledger, bounds: Callable[[], Bounds], later: Later) -> None:
        self._ledger = ledger
        self._bounds = bounds
        self._lock = threading.Lock()
        self._latch: Latch | None = None
        self.is_awaited: bool = False
        self._pace = Pace(1, 60.0)
        self.losses: Losses = Losses(Pace(1, 1.0), later)
        """Those that are dropped for want of room: logged at most once a second."""

    def _is_full(self) -> bool:
        return self._ledger.waiting >= self._bounds().pending_limit

    def is_over(self) -> bool:
        """Whether more wait than may."""
        return self._ledger.waiting > self._bounds().pending_limit

    def refuse(self, name: str) -> None:
        """Raise ``RunnerFull`` if there is none for one more."""
        bounds = self._bounds()
        if self._is_full():
            raise RunnerFull(
                f"after_response({name}): the runner is full, and this callback is not registered:"
                f" {self._ledger.waiting} callbacks of finished requests wait to start"
                f" (pending_limit={bounds.pending_limit}), and {bounds.limit} may run at once"
                ' (limit). Raise the limits, make the callbacks shorter, or let overflow be "wait"'
                ' or "drop".'
            )

    async def wait(self) -> None:
        """Wait while there is no room; not inside a callback, which holds a
        slot itself, and not while nothing moves."""
        inside = current_callback.get()
        if inside is not None and self._ledger.is_running(inside):
            return
        while self._bounds().overflow == "wait" and self._is_full():
            with self._lock:
                if self._latch is None:
                    self._latch = Latch()
                    self.is_awaited = True
                latch = self._latch
            begun = self._ledger.begun
            if not self._is_full() or await latch.wait(STALLED):
                continue
            if self._ledger.begun == begun:
                return

    def look(self) -> None:
        """A callback has begun or ended: is there room for those that wait?"""
        if self._is_full():
            return
        with self._lock:
            latch, self._latch = self._latch, None
            self.is_awaited = False
        if latch is not None:
            latch.open()

    def check(self, exchange: Exchange) -> bool:
        """An exchange that has ended may bring more than there is room for.
        Whether any was dropped."""
        if not self.is_over():
            return False
        bounds = self._bounds()
        if bounds.overflow == "drop":
            return self._drop_newest(exchange, bounds.pending_limit)
        if self._pace.is_due():
            log(
                "warning",
                "runner_full",
                "the runner is full: %s callbacks of finished requests wait to start"
                " (pending_limit=%s), and %s may run at once (limit). They are kept; %s. Raise the"
                " limits, make the callbacks shorter, or move them to a queue.",
                self._ledger.waiting,
                bounds.pending_limit,
                bounds.limit,
                "new ones are refused"
                if bounds.overflow == "raise"
                else f"views wait in aafter_response, up to {STALLED:g} s after the last has begun",
                waiting=self._ledger.waiting,
                pending_limit=bounds.pending_limit,
                limit=bounds.limit,
            )
        return False

    def _drop_newest(self, exchange: Exchange, limit: int) -> bool:
        dropped = False
        while (newest := exchange.queue.newest()) is not None:
            if not self._ledger.dooms(limit):
                break
            if exchange.drop(newest, FULL, if_pending=True):
                dropped = True
            else:
                self._ledger.spare()
        return dropped
