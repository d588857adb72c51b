"""What a runner knows of its callbacks: how many, in which state, and whose.

Promise 2, once_or_accounted: all states are counted under one lock, and who is pending is
what is left, so that their sum is the number of the registered callbacks at any time.
"""

import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

from ..runtime import Gate, Latch, change, monotonic
from .callback import Callback
from .state import NEXT, PENDING, RUNNING, CallbackState

_STATES = tuple(state.value.replace(" ", "_") for state in CallbackState)
_FINAL = [state.value for state in CallbackState if state not in NEXT]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What ``Runner.statistics()`` saw at one moment; totals since the process began."""

    open_exchanges: int
    """Requests that have registered callbacks, and whose response is not finished."""
    waiting: int
    """Those of the pending whose response is finished, and that wait for one of
    the ``limit`` slots: ``pending_limit`` bounds them."""
    overdue: int
    """Worker threads held by plain functions that have timed out."""
    pending: int
    running: int
    succeeded: int
    failed: int
    timed_out: int
    cancelled: int
    skipped: int
    dropped: int

    @property
    def registered(self) -> int:
        """All callbacks: the sum of the states, ``pending`` to ``dropped``."""
        return sum(getattr(self, state) for state in _STATES)


class Hooks(NamedTuple):
    """Who hears of callbacks, for each event; what nobody hears of costs nothing."""

    registered: Sequence[Callable[[Callback[Any]], object]] = ()
    started: Sequence[Callable[[Callback[Any]], object]] = ()
    ended: Sequence[Callable[[Callback[Any]], object]] = ()
    around: Sequence[Callable[[Callback[Any]], AbstractContextManager[object]]] = ()
    """What is entered around the call."""


class Room(Protocol):
    def open(self) -> None:
        """Somebody has left the line of those that wait."""


class Ledger:
    """The books of a runner, and the lock of all that is in them. Its exchanges and its slots
    keep them up themselves, in the same change as their own (``Gate``)."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Empty it in place, after a fork too: others keep it."""
        self.gate: Gate = Gate()
        self.registered: int = 0
        # By the value: hashing a member of an Enum runs Python code.
        self.ended: dict[str, int] = dict.fromkeys(_FINAL, 0)
        self.waiting: int = 0
        """*Waiting* are the pending callbacks of exchanges that have ended, until they have a
        slot."""
        self.begun: int = 0
        """How many have left the line of those that wait."""
        self._doomed: int = 0
        self._running: dict[Callback[Any], float | None] = {}
        """Since when; ``None`` for those that have been named for it."""
        self._exchanges: set[Any] = set()
        """Those with unsettled callbacks, open or ended."""
        self._dormant: weakref.WeakSet[Any] = weakref.WeakSet()
        """Those with callbacks that nobody waits for; some have none any more.
        Weakly: they live as long as what is to make their callbacks ready."""
        self._has_dormant: bool = False
        """Whether there may be some: asking the set runs Python code."""
        self.making: dict[Any, Any] = {}
        """What is being made, of which there is one (``once``)."""
        self._latches: dict[str, Latch] = {}
        """Of those who wait until nothing is left, and until less is."""
        self.hooks: Hooks = Hooks()
        """Who hears of callbacks besides the log."""
        self.timeout: float | None = None
        """Of callbacks that do not say otherwise."""
        self.refuses: bool = False
        """With ``overflow="raise"``."""
        self.promised: int = 0
        """Places in the line that views have waited for, and whose exchanges are open."""
        self.room: Room | None = None
        """Whom to tell that there may be room, while somebody waits for it."""
        self.is_heard: bool = False
        """Somebody is told of each end."""

    # In a change.

    def admit(self, exchange: Any, queue: Any, callback: Callback[Any], dormant: bool) -> bool:
        """One more callback is pending; whether there is something new to claim."""
        options, is_claimable = callback.options, False
        if dormant:
            self._dormant.add(exchange)
            self._has_dormant = callback._is_dormant = True
            queue.unready[callback] = None
            queue.dormant += 1
        elif options.awaits_delivery:
            queue.unready[callback] = None
        elif queue.has_chain and not options.concurrent:
            queue.sequential.append(callback)  # as queue.append does, without a call
        else:
            is_claimable = queue.append(callback)
        if not dormant:
            self._exchanges.add(exchange)
        if options.asks:
            queue.asks = True
        queue.registered = callback._number = queue.registered + 1
        queue.unsettled += 1
        self.registered += 1
        return is_claimable

    def begins(self, callback: Callback[Any], now: float) -> bool:
        """Make a pending callback RUNNING; ``False`` if it has been cancelled meanwhile."""
        callback._state = RUNNING
        if callback._never:
            # Cancelled by this thread, in the middle of this change or the one before.
            callback._state = PENDING
            return False
        self._running[callback] = callback._began = now
        if callback._is_waiting:
            callback._is_waiting = False
            self.waiting -= 1
            self.begun += 1
        return True

    def once(self, owner: Any, name: str, made: Any) -> Any:
        """Under the lock: this one becomes ``owner.name``, unless there is one already. Who comes
        back in meanwhile finds it by ``setdefault``, in one call, before it is in its place."""
        key = owner, name
        made = self.making.setdefault(key, made)
        if getattr(owner, name) is None:
            setattr(owner, name, made)
        self.making.pop(key, None)
        return getattr(owner, name)

    def hear(self) -> None:
        """Look who is to be told."""
        self.is_heard = bool(self.hooks.ended) or self.room is not None

    def idle(self, exchange: Any, has_dormant: bool) -> None:
        """The exchange has no unsettled callback any more, but for dormant ones. What is to be
        opened then is asked for."""
        self._exchanges.discard(exchange)
        if self._has_dormant and not has_dormant:
            self._dormant.discard(exchange)
            self._has_dormant = bool(self._dormant)
        asked = self.gate.asked
        if self.room is not None:
            asked.append(self.room.open)
        if self._latches:
            if (changed := self._latches.pop("changed", None)) is not None:
                asked.append(changed.open)
            if not self._exchanges and (idle := self._latches.pop("idle", None)) is not None:
                asked.append(idle.open)

    def keep(self, queue: Any) -> None:
        """The places that were promised to an exchange are taken, or not needed any more."""
        self.promised = max(0, self.promised - queue.promised)  # of another process, before a fork
        queue.promised = 0

    # Questions. They are answered in the middle of a change, too.

    def statistics(self, overdue: int) -> Statistics:
        return self.gate.look(partial(self._statistics, overdue))

    def _statistics(self, overdue: int) -> Statistics:
        exchanges = {*self._exchanges, *self._dormant} if self._dormant else self._exchanges
        open_exchanges = sum(not exchange.is_ended for exchange in exchanges)
        running, ended = len(self._running), [*self.ended.values()]
        pending = self.registered - running - sum(ended)
        return Statistics(open_exchanges, self.waiting, overdue, pending, running, *ended)

    def exchanges(self) -> list[Any]:
        return self.gate.look(partial(list, self._exchanges))

    def dormant(self) -> list[Any]:
        return self.gate.look(partial(list, self._dormant))

    def running(self) -> list[Callback[Any]]:
        return self.gate.look(partial(list, self._running))

    def holds(self, exchange: Any) -> bool:
        return exchange in self._exchanges

    def is_running(self, callback: Callback[Any]) -> bool:
        return callback in self._running

    def dooms(self, limit: int) -> bool:
        """Whether more than ``limit`` wait, so that one is to be dropped. Who asks
        then drops one, or calls ``spare``: nobody else is told to for the same."""
        return self._doom(limit) is True

    @change
    def _doom(self, limit: int) -> bool:
        if self.waiting - self._doomed <= limit:
            return False
        self._doomed += 1
        return True

    @change
    def spare(self) -> None:
        # Unless somebody else has dropped it, a shutdown say.
        self._doomed -= self._doomed > 0

    def long_running(self, seconds: float) -> tuple[list[Callback[Any]], float | None]:
        """Those that have been running for so long, beyond their timeout if they
        have one, once each; and in how many seconds to ask again, ``None`` for
        not at all."""
        found: list[Callback[Any]] = []
        due: list[float] = []
        self.gate.look(partial(self._find_long, monotonic() - seconds, found, due))
        return found, min(due, default=None)

    def _find_long(self, limit: float, found: list[Callback[Any]], due: list[float]) -> None:
        for callback, since in self._running.items():
            if since is None:
                continue
            left = since + (callback._timeout or 0) - limit
            if left > 0:
                due.append(left)
            else:
                self._running[callback] = None
                found.append(callback)

    def running_for(self, callback: Callback[Any]) -> float:
        """For how many seconds."""
        since = self._running.get(callback)
        return 0.0 if since is None else monotonic() - since

    # Waiting for the end of all.

    async def wait_idle(self, timeout: float | None) -> bool:
        """Wait up to ``timeout`` seconds; whether nothing is pending or running."""
        latch = self._idle_latch()
        return latch is None or await latch.wait(timeout)

    async def wait_until(self, is_over: Callable[[], bool], timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until ``is_over``, which is asked
        whenever an exchange has no unsettled callback any more."""
        deadline = monotonic() + timeout
        while True:
            self.gate.catch_up()
            changed = self.gate.look(partial(self._latches.setdefault, "changed", Latch()))
            if is_over():
                return True
            if not await changed.wait(deadline - monotonic()):
                return is_over()

    def wait_idle_in_thread(self, timeout: float | None) -> bool:
        latch = self._idle_latch()
        return latch is None or latch.wait_in_thread(timeout)

    def _idle_latch(self) -> Latch | None:
        self.gate.catch_up()
        return self.gate.look(self._make_idle_latch)

    def _make_idle_latch(self) -> Latch | None:
        # In one call: who comes back in meanwhile has the same one.
        return self._latches.setdefault("idle", Latch()) if self._exchanges else None
