"""The callbacks of one exchange, in their lists. What is done here is done in a change (``Gate``).

Promise 6, in_order: sequential callbacks stand in the line first-in, first-out.
"""

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..delivery import Delivery
from ..runtime import Latch, monotonic
from .callback import Callback, Place
from .host import Host
from .ledger import Ledger
from .options import Lane
from .outcome import Outcome
from .response import ResponseState
from .state import PENDING, RUNNING


class CallbackQueue:
    """The callbacks of one exchange. Made for the first one, so that an
    exchange without callbacks has no list (promise 12)."""

    __slots__ = (
        "asks",
        "claims",
        "dead",
        "dormant",
        "handed",
        "has_chain",
        "is_over",
        "keyed",
        "latch",
        "promised",
        "registered",
        "sequential",
        "unready",
        "unsettled",
    )

    def __init__(self) -> None:
        self.latch: Latch | None = None
        """Opens when the exchange has ended and no callback is left."""
        self.sequential: deque[Callback[Any]] = deque()
        self.claims: list[Callback[Any] | None] = []
        """What can be started independently: each concurrent callback, and
        ``None`` once for the chain of the sequential ones."""
        self.has_chain: bool = False
        """The chain stands in ``claims``, or somebody is taking it."""
        self.handed: dict[Callback[Any], None] = {}
        """Concurrent callbacks that were claimed, and have not begun."""
        self.keyed: dict[object, Place] = {}
        self.registered: int = 0
        self.unsettled: int = 0
        self.unready: dict[Callback[Any], None] = {}
        """Those that wait for something else than the response. They are in no line."""
        self.dormant: int = 0
        """How many of them nobody waits for."""
        self.asks: bool = False
        """Whether somebody will ask for the outcome."""
        self.is_over: bool = False
        """It has ended, was asked for its callbacks, and those left are waiting: what comes now
        is late. What comes between the end and that goes with the others."""
        self.promised: int = 0
        """Places in the runner's line that are kept for it, until it ends."""
        self.dead: int = 0
        """At most so many ended callbacks still stand in ``sequential`` and ``claims``."""

    def place_of(self, key: object) -> Place:
        """Not in a change: it may raise what hashing or comparing the key raises."""
        return self.keyed.setdefault(key, Place())

    def append(self, callback: Callback[Any], *, in_order: bool = False) -> bool:
        """Whether there is something new to claim. ``in_order``: it was registered
        before some of those in the line, and goes to its place."""
        if callback.options.concurrent:
            self.claims.append(callback)
            return True
        if in_order:
            place = len(self.sequential)
            while place and self.sequential[place - 1]._number > callback._number:
                place -= 1
            self.sequential.insert(place, callback)
        else:
            self.sequential.append(callback)
        if self.has_chain:
            return False
        self.has_chain = True
        self.claims.append(None)
        return True

    def place_acknowledged(self, outcome: Outcome | None) -> bool:
        """What waits for the delivery goes to its place; ``False`` if it has to wait on."""
        waiting = self.unacknowledged()
        if outcome is None or outcome.delivery < Delivery.ACKNOWLEDGED:
            return not waiting
        for callback in waiting:
            del self.unready[callback]
            self.append(callback, in_order=True)
        return True

    def head(self) -> Callback[Any] | None:
        """The next sequential callback that is pending."""
        sequential = self.sequential
        while sequential:
            callback = sequential[0]
            if callback._state is PENDING:
                return callback
            sequential.popleft()
        return None

    def has_nothing(self) -> bool:
        """Whether nothing sequential is left; the claim to it is given back then."""
        if self.head() is not None:
            return False
        self.has_chain = False
        return True

    def take_out(self, callback: Callback[Any]) -> None:
        """One that has not begun ends. Keeps the lists in proportion to what they hold."""
        self.handed.pop(callback, None)
        self.unready.pop(callback, None)
        self.dead += 1
        if self.dead > 32 and self.dead > self.unsettled:
            self.sequential = deque(c for c in self.sequential if not c.done())
            self.claims = [c for c in self.claims if c is None or not c.done()]
            self.dead = 0

    # Changes of its own.

    def claim(self, host: Host[Any], exchange: object) -> list[Callback[Any] | None]:
        gate = host.ledger.gate
        try:
            gate.acquire()
            if gate.is_busy:
                gate.asked.append(partial(host.dispatch, exchange))
                return []
            gate.is_busy = True
            try:
                if not self.is_over and self.promised:
                    host.ledger.keep(self)
                claims, self.claims = self.claims, []
                for claim in claims:
                    if claim is not None and claim._state is PENDING:
                        self.handed[claim] = None
                if not self.is_over:
                    self.is_over = True
                    if host.counts_waiting:
                        for callback in (*self.sequential, *self.handed):
                            if callback._state is PENDING and not callback._is_waiting:
                                callback._is_waiting = True
                                host.ledger.waiting += 1
            finally:
                gate.is_busy = False
        finally:
            gate.release()
        if gate.asked:
            try:
                gate.catch_up()
            except Exception:  # the change is made all the same
                gate.hurry()
        return claims

    def reclaim(self, ledger: Ledger, single: Callback[Any] | None) -> None:
        """What was claimed, and has not begun, can be claimed again."""
        change = partial(self._reclaim, single)
        ledger.gate.make(change, None, partial(self.reclaim, ledger, single))

    def _reclaim(self, single: Callback[Any] | None) -> None:
        if single is None:
            if self.has_chain and None not in self.claims:
                self.claims.append(None)
        elif single in self.handed:
            self.claims.append(single)
            del self.handed[single]

    def next(
        self,
        ledger: Ledger,
        lanes: Sequence[Lane] | None,
        single: Callback[Any] | None,
        outcome: Outcome | None,
    ) -> Callback[Any] | None:
        gate = ledger.gate
        try:
            gate.acquire()
            if gate.is_busy:
                return None
            gate.is_busy = True
            try:
                while (callback := single or self.head()) is not None:
                    is_elsewhere = lanes is not None and callback.home not in lanes
                    if is_elsewhere and (outcome is None or callback.options.wants(outcome)):
                        return None
                    if single is not None and callback._state is not PENDING:
                        return None
                    # Before it leaves its list: a call may raise.
                    is_running = ledger.begins(callback, monotonic())
                    if single is None:
                        self.sequential.popleft()
                    else:
                        self.handed.pop(callback, None)
                        self.unready.pop(callback, None)
                    if is_running or single is not None:
                        break
            finally:
                gate.is_busy = False
        finally:
            gate.release()
        if gate.asked:
            try:
                gate.catch_up()
            except Exception:  # the change is made all the same
                gate.hurry()
        return callback if callback is not None and callback._state is RUNNING else None

    def set_out(self, ledger: Ledger, callback: Callback[Any] | None) -> None:
        ledger.gate.make(partial(self._set_out, ledger, callback), None)

    def _set_out(self, ledger: Ledger, callback: Callback[Any] | None) -> None:
        callback = callback or self.head()
        if callback is not None and callback._is_waiting:
            callback._is_waiting = False
            ledger.waiting -= 1
            ledger.begun += 1

    def give_back(self, ledger: Ledger) -> bool:
        return ledger.gate.make(self.has_nothing, False)

    # For those that wait.

    def latch_of(self, ledger: Ledger, callback: Callback[Any]) -> Latch:
        latch, is_done = ledger.gate.look(partial(self._latch_of, ledger, callback))
        if is_done:
            latch.open()
        return latch

    def _latch_of(self, ledger: Ledger, callback: Callback[Any]) -> tuple[Latch, bool]:
        callback._is_watched = True
        latch = ledger.once(callback, "_latch", Latch())
        # Last: who makes it done looks for the latch behind that.
        return latch, callback.done()

    def idle_latch(self, ledger: Ledger, of: ResponseState) -> Latch:
        latch, is_idle = ledger.gate.look(partial(self._idle_latch, ledger, of))
        if is_idle:
            latch.open()
        return latch

    def _idle_latch(self, ledger: Ledger, of: ResponseState) -> tuple[Latch, bool]:
        latch = ledger.once(self, "latch", Latch())
        is_idle = of.is_ended and self.unsettled == self.dormant
        if is_idle:
            self.latch = None
        return latch, is_idle

    # Questions. Asked while nothing changes (``Gate.look``).

    def is_next(self, ledger: Ledger, lanes: Sequence[Lane]) -> bool:
        """Whether the next sequential callback belongs to one of these lanes."""
        with ledger.gate.lock:
            waiting = [*self.sequential]  # in one step: who comes back in may take one out
        callback = next((c for c in waiting if c._state is PENDING), None)
        return callback is not None and callback.home in lanes

    def pending(self) -> list[Callback[Any]]:
        waiting = [*self.sequential, *filter(None, self.claims), *self.handed]
        waiting += [callback for callback in self.unready if not callback._is_dormant]
        return [callback for callback in waiting if callback._state is PENDING]

    def dormant_ones(self) -> list[Callback[Any]]:
        return [callback for callback in self.unready if callback._is_dormant]

    def unacknowledged(self) -> list[Callback[Any]]:
        """Those that wait for the delivery, in the order of registration."""
        found = [c for c in self.unready if c.options.awaits_delivery and not c._is_dormant]
        return sorted(found, key=lambda callback: callback._number)

    def newest(self, *, trims: bool) -> Callback[Any] | None:
        """The waiting one that was registered last. ``trims``: take out the ended ones at the
        end of the line, which others would pass again."""
        while trims and self.sequential and self.sequential[-1].done():
            self.sequential.pop()
        last = next((c for c in reversed(self.sequential) if not c.done()), None)
        concurrent = next((c for c in reversed(self.handed) if c._is_waiting), None)
        waiting = [c for c in (last, concurrent) if c is not None and c._is_waiting]
        return max(waiting, key=lambda callback: callback._number, default=None)
