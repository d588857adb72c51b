"""What is lost is logged by name (promise 10, drained), and not too often."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from .callback import Callback
from .instrumentation import log


class Pace:
    """How often something may be logged: so many times in so many seconds."""

    def __init__(self, times: int, seconds: float) -> None:
        self._times = times
        self._seconds = seconds
        self._lock = threading.Lock()
        self._since = float("-inf")
        self._count = 0

    def is_due(self) -> bool:
        now = time.monotonic()
        with self._lock:
            if now - self._since >= self._seconds:
                self._since = now
                self._count = 0
            self._count += 1
            return self._count <= self._times


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
        self._lock = threading.Lock()
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
            log("error", "callbacks_dropped", "callbacks were dropped: %s", rest, callbacks=rest)

    def _take_rest(self) -> str:
        with self._lock:
            unsaid, self._unsaid = self._unsaid, Counter()
        return f"{unsaid.total()} more, {listed(unsaid)}" if unsaid else ""
