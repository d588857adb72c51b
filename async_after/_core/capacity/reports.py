"""What a runner says of its callbacks in the log, each thing at its pace.

Promise 10, drained: each lost callback is logged by name.
"""

from _thread import RLock
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

from ..exchange import Callback, Exchange, Ledger
from ..runtime import Pace, is_debug, log

LONG = 60.0
"""Seconds after which a callback without a timeout is named."""

SLOW = 1.0
"""Seconds after which one is named with ``DEBUG = True``."""
_MANY_NAMES = 1000

_SERVERS = (
    "request of this loop was served meanwhile",
    ', or register it with using(lane="background")',
)
_BACKGROUND = "other coroutine function of the background loop went on meanwhile", ""

Later = Callable[[float, Callable[[], None]], object]
"""Calls a function in so many seconds."""


def listed(names: "Counter[str]") -> str:
    """So many of each. Not all, if somebody has made up a name for each."""
    shown = ", ".join(f"{count} x {name}" for name, count in names.most_common(20))
    others = len(names) - 20
    return f"{shown}, and {others} other names" if others > 0 else shown


class Losses:
    """Logs each dropped callback in a line of its own, as far as the pace
    allows. Those that got none are named a second later: no one is left out."""

    def __init__(self, pace: Pace, later: Later) -> None:
        self._pace = pace
        self._later = later
        self._lock = RLock()  # a destructor may come back here
        self._unsaid: Counter[str] = Counter()

    def add(self, callback: Callback[Any]) -> None:
        if not self._pace.is_due():
            with self._lock:
                is_first = not self._unsaid
                self._unsaid[f"{callback.name} ({callback._reason})"] += 1
            if is_first:
                self._later(1.0, self.say_rest)
            return
        rest = self._take_rest()
        before = f" (since the last such line: {rest})" if rest else ""
        log(
            "error",
            "callback_dropped",
            "callback %s was dropped: %s%s",
            callback.describe(),
            callback._reason,
            before,
            of=callback,
            reason=callback._reason,
        )

    def say_rest(self) -> None:
        """Name those that have had no line yet."""
        if self._unsaid and (rest := self._take_rest()):
            self._pace.is_due()  # this is a line as well
            message = "callbacks were dropped: %s"
            # In nobody's context, as it is about several.
            Context().run(lambda: log("error", "callbacks_dropped", message, rest, callbacks=rest))

    def _take_rest(self) -> str:
        with self._lock:
            unsaid, self._unsaid = self._unsaid, Counter()
        return f"{unsaid.total()} more, {listed(unsaid)}" if unsaid else ""


class SlowOnes:
    """An instrument of ``DEBUG = True``: it names callbacks that are slow, but do no harm."""

    def ended(self, callback: Callback[Any]) -> None:
        seconds = callback.took
        if seconds is None or seconds <= SLOW:
            return
        log(
            "warning",
            "callback_slow",
            "callback %s took %.1f s: the response did not wait for it, but a shutdown does"
            " (DEBUG = True shows this)",
            callback.describe(),
            seconds,
            of=callback,
            seconds=seconds,
        )


class Reports:
    def __init__(self, ledger: Ledger, later: Later) -> None:
        self._ledger = ledger
        self._named: set[str] = set()
        self.losses: Losses = Losses(Pace(1000, 1.0), later)

    def slow_step(
        self,
        callback: Callback[Any],
        seconds: float,
        limit: float | None,
        *,
        in_background: bool = False,
    ) -> None:
        """A coroutine function has held its event loop: name it, once."""
        if limit is None or seconds <= limit or (callback.name in self._named and not is_debug()):
            return
        if len(self._named) >= _MANY_NAMES:  # somebody makes up a name for each
            self._named.clear()
        self._named.add(callback.name)
        log(
            "warning",
            "callback_blocked_loop",
            "callback %s blocked the event loop for %.2f s in one step (slow_step=%s): no %s."
            " Make it a plain def, which runs in a thread%s.%s",
            callback.describe(),
            seconds,
            limit,
            *_BACKGROUND if in_background else _SERVERS,
            "" if is_debug() else " It is named only once.",
            of=callback,
            seconds=seconds,
            slow_step=limit,
        )

    def long_ones(self) -> float | None:
        """Name the callbacks that run very long; in how many seconds to look again."""
        found, again = self._ledger.long_running(LONG)
        for callback in found:
            log(
                "warning",
                "callback_long_running",
                "callback %s has been running for more than %.0f s, and %s",
                callback.describe(),
                LONG + (callback._timeout or 0),
                "has no timeout"
                if callback._timeout is None
                else f"has not ended at its timeout of {callback._timeout:g} s",
                of=callback,
                timeout=callback._timeout,
            )
        return again

    def unsettled(self, why: str, of: Exchange | None = None) -> None:
        """Name what is pending or running (``of`` this exchange): it may be lost."""
        for callback in self._unsettled():
            if of is None or callback._owner is of:
                log(
                    "warning",
                    "callback_unsettled",
                    "callback %s is %s; %s",
                    callback.describe(),
                    callback.state.value,
                    why,
                    of=callback,
                )

    def waiting(self, why: str) -> None:
        """The same in one line, where they will most likely end in time."""
        names = Counter(callback.name for callback in self._unsettled())
        if names:
            log(
                "warning",
                "callbacks_awaited",
                "%s for %s callback(s): %s",
                why,
                names.total(),
                listed(names),
                callbacks=names.total(),
            )

    def _unsettled(self) -> list[Callback[Any]]:
        pending = [c for exchange in self._ledger.exchanges() for c in exchange.pending()]
        return [*self._ledger.running(), *pending]


class _Capacity(Protocol):
    ledger: Ledger
    reports: Reports


class Lookout:
    """Names callbacks without a timeout that take very long, once, while any are under way."""

    def __init__(self, capacity: _Capacity, later: Later, mend: Callable[[], None]) -> None:
        """``later``: raises ``RuntimeError`` if there is no later. ``mend``: is called, too."""
        self._mend = mend
        self._capacity = capacity
        self._later = later
        self.is_on: bool = False

    def look_in(self, seconds: float) -> None:
        self.is_on = True
        try:
            self._later(seconds, self._look)
        except Exception:  # the loop is closed
            self.is_on = False

    def _look(self) -> None:
        self.is_on = False  # before the look, so that no start goes unseen
        self._mend()
        seconds = self._capacity.reports.long_ones()
        if seconds is None and self._capacity.ledger.exchanges():
            seconds = LONG  # what waits may begin
        if seconds is not None and not self.is_on:
            self.look_in(seconds)
