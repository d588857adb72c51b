"""What happens when more callbacks wait than may: ``overflow``.

Promise 9, bounded: ``pending_limit`` is about the pending callbacks of
finished exchanges. Those of an open one make nobody wait, and are no overflow.
"""

import functools
from collections import deque
from collections.abc import Callable
from typing import Any

from ..conf import Bounds
from ..exchange import Callback, Exchange, Ledger, current_callback
from ..runtime import Gate, Latch, Pace, change, log
from .reports import Later, Losses

STALLED = 5.0
"""Seconds in which no callback has begun, after which nobody waits for room:
those that hold the slots may be waiting for the one that waits here."""

FULL = "the runner is full, and more would wait than pending_limit allows"
"""Why callbacks are dropped here."""


class RunnerFull(RuntimeError):
    """With ``overflow="raise"``: too many callbacks wait, and one more is refused."""

    __module__ = "async_after"


class _Guest:
    """A view that wants a place for one callback."""

    __slots__ = ("has_place", "latch", "queue")

    def __init__(self, queue: Any) -> None:
        self.queue = queue
        self.latch = Latch()
        self.has_place = False


class Backpressure:
    """The room for waiting callbacks."""

    def __init__(
        self,
        ledger: Ledger,
        bounds: Callable[[], Bounds],
        free_slots: Callable[[], int],
        later: Later,
    ) -> None:
        self._ledger = ledger
        self._bounds = bounds
        self._free_slots = free_slots
        self.gate: Gate = ledger.gate
        self._guests: deque[_Guest] = deque()
        """Views that wait for room, first-in, first-out."""
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

    async def wait(self, exchange: Exchange) -> None:
        """Wait while there is no room; not inside a callback, which holds a
        slot itself, and not while nothing moves. A place is kept for who has waited, until its
        exchange ends: those that wait do not all find the same one."""
        inside, ledger = current_callback.get(), self._ledger
        is_inside = inside is not None and ledger.is_running(inside)
        if self._bounds().overflow != "wait" or is_inside:
            return
        guest = _Guest(exchange.queue)
        if self._enter(guest):
            return
        begun = None
        try:
            while ledger.begun != begun:
                begun = ledger.begun
                if await guest.latch.wait(STALLED):
                    break
        except BaseException:  # its client has gone
            self._give_up(guest)
            self.open()
            raise
        self._go_on(guest)

    def open(self) -> None:
        """A callback has begun or ended: those for whom there is a place now go on."""
        for latch in self._let_in() or ():
            latch.open()

    # In a change.

    @change
    def _enter(self, guest: "_Guest") -> bool:
        """Whether there is a place for it; else it stands in the line."""
        is_known = bool(guest.queue.promised)
        if (is_known or not self._guests) and self._has_place(guest):
            self._keep_place(guest)
            return True
        if is_known:  # those behind it may be waiting for the place that it keeps
            self._guests.appendleft(guest)
        else:
            self._guests.append(guest)
        self._ledger.room = self
        self._ledger.hear()
        return False

    @change
    def _let_in(self) -> list[Latch]:
        opened = []
        while self._guests and self._has_place(self._guests[0]):
            guest = self._guests.popleft()
            self._keep_place(guest)
            opened.append(guest.latch)
        if not self._guests:
            self._ledger.room = None
            self._ledger.hear()
        return opened

    @change
    def _go_on(self, guest: "_Guest") -> None:
        """Without a place, if it has none: nothing moves."""
        if not guest.has_place:
            self._guests.remove(guest)
            self._keep_place(guest)

    @change
    def _give_up(self, guest: "_Guest") -> None:
        if not guest.has_place:
            self._guests.remove(guest)
        elif guest.queue.promised:
            guest.queue.promised -= 1
            self._ledger.promised -= 1

    def _has_place(self, guest: "_Guest") -> bool:
        """Besides those that are kept. An exchange that keeps some is not held up by them."""
        ledger, limit = self._ledger, self._bounds().pending_limit
        if guest.queue.promised:
            return ledger.waiting < limit
        return ledger.waiting + ledger.promised < limit + self._free_slots()

    def _keep_place(self, guest: "_Guest") -> None:
        guest.has_place = True
        if not guest.queue.is_over:  # else what it registers is late, and waits at once
            guest.queue.promised += 1
            self._ledger.promised += 1

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
        while (newest := self._newest(exchange)) is not None:
            if not self._ledger.dooms(limit):
                break
            if exchange.drop(newest, FULL, if_pending=True):
                dropped = True
            else:
                self._ledger.spare()
        return dropped

    def _newest(self, exchange: Exchange) -> Callback[Any] | None:
        gate = self._ledger.gate
        # In the middle of a change, who makes it goes through the line.
        trims = not gate.is_inside()
        return gate.look(functools.partial(exchange.queue.newest, trims=trims))
