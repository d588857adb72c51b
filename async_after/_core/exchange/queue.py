"""The callbacks of one exchange: what stands in which list, and in which state.

Promise 2, once_or_accounted: each is handed out once, and registering and ending are
atomic against each other: all of it happens under one lock.
Promise 6, in_order: sequential callbacks are handed out first-in, first-out.
"""

from _thread import LockType
from collections import deque
from collections.abc import Sequence
from itertools import chain
from threading import Lock
from typing import Any

from ..delivery import Delivery
from ..runtime import Latch
from .callback import Callback
from .host import Host
from .options import Lane
from .outcome import Outcome
from .response import ResponseState
from .state import PENDING, RUNNING, SUCCEEDED, CallbackState


class CallbackQueue:
    """The callbacks of one exchange. Made for the first one, so that an
    exchange without callbacks has no list (promise 12).

    The ``host`` that its methods are given runs the callbacks, and counts them.
    """

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
        "lock",
        "registered",
        "sequential",
        "unready",
        "unsettled",
    )

    def __init__(self) -> None:
        self.lock: LockType = Lock()
        self.latch: Latch | None = None
        self.sequential: deque[Callback[Any]] = deque()
        self.claims: list[Callback[Any] | None] = []
        """What can be started by itself: concurrent callbacks, ``None`` for the chain of others."""
        self.has_chain: bool = False
        """The chain stands in ``claims``, or somebody is taking it."""
        self.handed: dict[Callback[Any], None] = {}
        """Concurrent callbacks that were claimed, and have not begun."""
        self.keyed: dict[object, Callback[Any]] = {}
        self.registered: int = 0
        self.unsettled: int = 0
        self.unready: dict[Callback[Any], None] = {}
        """Those that wait for something else than the response. They are in no line."""
        self.dormant: int = 0
        """How many of them nobody waits for. The exchange is idle when no others are unsettled."""
        self.asks: bool = False
        """Whether somebody will ask for the outcome."""
        self.is_over: bool = False
        """It has ended, was asked for its callbacks, and its host knows how many wait."""
        self.dead: int = 0
        """At most so many ended ones still stand in ``sequential`` and ``claims``."""

    # Into the lists: under the lock.

    def append(self, callback: Callback[Any], *, in_order: bool = False) -> bool:
        """Whether there is something new to claim. ``in_order``: it was registered
        before some of those in the line, and goes to its place."""
        if callback.options.concurrent:
            self.claims.append(callback)
            return True
        self.sequential.append(callback)
        if in_order:
            self.sequential = deque(sorted(self.sequential, key=lambda other: other._number))
        if self.has_chain:
            return False
        self.has_chain = True
        self.claims.append(None)
        return True

    def put_off(self, callback: Callback[Any], *, dormant: bool) -> None:
        """It waits for something else than the response."""
        self.unready[callback] = None
        callback._is_dormant = dormant
        self.dormant += dormant

    def place_acknowledged(self, outcome: Outcome | None) -> bool:
        """What waits for the delivery goes to its place; ``False`` if it has to wait on."""
        waiting = self._unacknowledged()
        if outcome is None or outcome.delivery < Delivery.ACKNOWLEDGED:
            return not waiting
        for callback in waiting:
            del self.unready[callback]
            self.append(callback, in_order=True)
        return True

    def wait_for_slots(self, host: Host[Any], *late: Callback[Any]) -> None:
        """These wait for slots from now on: by default all that there are."""
        if host.counts_waiting:
            found = filter(None, late or chain(self.sequential, self.claims))
            waiting = [callback for callback in found if callback._state is PENDING]
            for callback in waiting:
                callback._is_waiting = True
            host.count_waiting(len(waiting))

    def head(self) -> Callback[Any] | None:
        """The next sequential callback that is pending."""
        sequential = self.sequential
        while sequential:
            callback = sequential[0]
            if callback._state is PENDING:
                return callback
            sequential.popleft()
        return None

    # Out of the lists.

    def claim(self, host: Host[Any]) -> list[Callback[Any] | None]:
        with self.lock:
            if not self.is_over:
                self.is_over = True
                self.wait_for_slots(host)
            claims, self.claims = self.claims, []
            for claim in claims:
                if claim is not None and not claim.done():
                    self.handed[claim] = None
            return claims

    def set_out(self, host: Host[Any], callback: Callback[Any] | None) -> None:
        with self.lock:
            callback = callback or self.head()
            if callback is not None and callback._is_waiting:
                callback._is_waiting = False
                host.count_waiting(-1)

    def next(
        self, host: Host[Any], lanes: Sequence[Lane] | None, outcome: Outcome | None
    ) -> Callback[Any] | None:
        with self.lock:
            callback = self.head()
            if callback is None:
                return None
            is_elsewhere = lanes is not None and callback.home not in lanes
            if is_elsewhere and (outcome is None or callback.options.wants(outcome)):
                return None
            self.sequential.popleft()
            self._begin(host, callback)
            return callback

    def follow(
        self, host: Host[Any], callback: Callback[Any], result: Any, lanes: Sequence[Lane]
    ) -> Callback[Any] | None:
        with self.lock:
            following = self.head()
            if (
                following is None
                or following.home not in lanes
                or following.options.when != "always"
                or callback.options.key is not None
                or callback._latch is not None
                or callback._returned is not None
                or callback._state is not RUNNING
            ):
                return None
            self.sequential.popleft()
            self.unsettled -= 1
            callback._result = result
            callback._state = SUCCEEDED
            # To be dropped when the lock is free: as in settle.
            dropped = callback._task, callback._context
            callback._task = callback._context = callback._stop = None
            following._state = RUNNING
            was_waiting, following._is_waiting = following._is_waiting, False
            host.turn(callback, following, was_waiting)
        del dropped
        return following

    def begin(self, host: Host[Any], callback: Callback[Any]) -> bool:
        with self.lock:
            if callback._state is not PENDING:
                return False
            self.handed.pop(callback, None)
            self.unready.pop(callback, None)
            self._begin(host, callback)
            return True

    def _begin(self, host: Host[Any], callback: Callback[Any]) -> None:
        callback._state = RUNNING
        was_waiting, callback._is_waiting = callback._is_waiting, False
        host.move(callback, PENDING, RUNNING, was_waiting)

    def give_back(self) -> bool:
        with self.lock:
            if self.head() is not None:
                return False
            self.has_chain = False
            return True

    def settle(
        self,
        host: Host[Any],
        callback: Callback[Any],
        state: CallbackState,
        result: Any,
        exception: BaseException | None,
        reason: str | None,
        expected: CallbackState | None,
    ) -> tuple[Any, ...] | None:
        """What it needs no more, to be dropped when the lock is free: a destructor may
        register. ``None`` if it has ended, or is not in the ``expected`` state."""
        with self.lock:
            before = callback._state
            if before is not (expected or RUNNING) and (
                expected is not None or before is not PENDING
            ):
                return None
            callback._result = result
            callback._exception = exception
            if reason is not None:
                callback._reason = reason
            callback._state = state
            dropped = callback._returned, callback._task, callback._context
            callback._task = callback._context = callback._stop = callback._returned = None
            key = callback.options.key
            if key is not None and self.keyed.get(key) is callback:
                del self.keyed[key]
            if before is PENDING:
                self.handed.pop(callback, None)
                self.unready.pop(callback, None)
                self._bury()
            was_waiting, callback._is_waiting = callback._is_waiting, False
            host.move(callback, before, state, was_waiting)
            return dropped

    def _bury(self) -> None:
        """One was cancelled or replaced: keep the lists in proportion to what they hold."""
        self.dead += 1
        if self.dead > 32 and self.dead > self.unsettled:
            self.sequential = deque(c for c in self.sequential if not c.done())
            self.claims = [c for c in self.claims if c is None or not c.done()]
            self.dead = 0

    def latch_of(self, callback: Callback[Any]) -> Latch:
        with self.lock:
            latch = callback._latch = callback._latch or Latch()
            is_done = callback.done()
        if is_done:
            latch.open()
        return latch

    def idle_latch(self, of: ResponseState) -> Latch:
        with self.lock:
            is_idle = of.is_ended and self.unsettled == self.dormant
            latch = self.latch or Latch()
            self.latch = None if is_idle else latch
        if is_idle:
            latch.open()
        return latch

    # Questions.

    def pending(self) -> list[Callback[Any]]:
        with self.lock:
            waiting = [*self.sequential, *filter(None, self.claims), *self.handed]
            waiting += [callback for callback in self.unready if not callback._is_dormant]
        return [callback for callback in waiting if callback.state is PENDING]

    def dormant_ones(self) -> list[Callback[Any]]:
        with self.lock:
            return [callback for callback in self.unready if callback._is_dormant]

    def unacknowledged(self) -> list[Callback[Any]]:
        with self.lock:
            return self._unacknowledged()

    def _unacknowledged(self) -> list[Callback[Any]]:
        """Those that wait for the delivery, in the order of registration. Under the lock."""
        found = [c for c in self.unready if c.options.when == "acknowledged" and not c._is_dormant]
        return sorted(found, key=lambda callback: callback._number)

    def newest(self) -> Callback[Any] | None:
        """The waiting one that was registered last."""
        with self.lock:
            while self.sequential and self.sequential[-1].done():
                self.sequential.pop()
            last = self.sequential[-1] if self.sequential else None
            concurrent = next((c for c in reversed(self.handed) if c._is_waiting), None)
            waiting = [c for c in (last, concurrent) if c is not None and c._is_waiting]
            return max(waiting, key=lambda callback: callback._number, default=None)
