"""The callbacks of one exchange, until they are handed out.

Only ``handing.py`` and ``exchange.py`` work with it, under its lock.
"""

from _thread import LockType
from collections import deque
from threading import Lock
from typing import Any

from ..runtime import Latch
from .callback import PENDING, Callback
from .outcome import Outcome


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
        "lock",
        "outcome",
        "registered",
        "sequential",
        "unready",
        "unsettled",
    )

    def __init__(self) -> None:
        self.lock: LockType = Lock()
        self.outcome: Outcome | None = None
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
        self.keyed: dict[object, Callback[Any]] = {}
        self.registered: int = 0
        self.unsettled: int = 0
        self.unready: dict[Callback[Any], None] = {}
        """Those that wait for something else than the response. They are in no line."""
        self.dormant: int = 0
        """How many of them nobody waits for."""
        self.asks: bool = False
        """Whether somebody will ask for the outcome."""
        self.is_over: bool = False
        """It has ended, was asked for its callbacks, and its host knows how many wait."""
        self.dead: int = 0
        """At most so many ended callbacks still stand in the two lists."""

    @property
    def awake(self) -> int:
        """How many somebody may wait for."""
        return self.unsettled - self.dormant

    def unacknowledged(self) -> list[Callback[Any]]:
        """Those that wait for the delivery, in the order of registration."""
        found = [c for c in self.unready if c.options.when == "acknowledged" and not c._is_dormant]
        return sorted(found, key=lambda callback: callback._number)

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

    def head(self) -> Callback[Any] | None:
        """The next sequential callback that is pending."""
        sequential = self.sequential
        while sequential:
            callback = sequential[0]
            if callback._state is PENDING:
                return callback
            sequential.popleft()
        return None

    def bury(self) -> None:
        """A waiting callback was cancelled or replaced: keep the lists in
        proportion to what they hold."""
        self.dead += 1
        if self.dead > 32 and self.dead > self.unsettled:
            self.sequential = deque(c for c in self.sequential if not c.done())
            self.claims = [c for c in self.claims if c is None or not c.done()]
            self.dead = 0
