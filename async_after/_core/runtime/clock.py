"""The clock by which we wait and measure, and how long one can wait.

Tools that freeze the time of a test replace each ``time.monotonic`` that they find in a module:
what is due by a frozen clock never comes. A partial is another object, and no dearer.
A loop of asyncio goes by the frozen one.
"""

import functools
import time
from datetime import UTC, datetime
from threading import TIMEOUT_MAX
from typing import TypeGuard

monotonic: "functools.partial[float]" = functools.partial(time.monotonic)


def is_frozen() -> bool:
    """Whether a test has frozen the others, those of event loops too."""
    return time.monotonic is not monotonic.func


def is_seconds(value: object, *, zero: bool = False, at_most: float = TIMEOUT_MAX) -> bool:
    """A number of seconds above zero (or zero, if that is allowed); by default one that a thread
    can wait."""
    return _is_number(value) and (value >= 0 if zero else value > 0) and value <= at_most


def refuse_timeout(of: str, timeout: object) -> None:
    """``TypeError`` or ``ValueError`` for what nobody can wait. Below zero it is over, as
    everywhere in Python."""
    if timeout is None or (_is_number(timeout) and abs(timeout) <= TIMEOUT_MAX):
        return
    kind = ValueError if _is_number(timeout) else TypeError
    expected = f"must be a number of seconds, at most {TIMEOUT_MAX:.0f}, or None"
    raise kind(f"{of}(timeout=...) {expected}, not {timeout!r}")


def _is_number(value: object) -> TypeGuard[int | float]:
    # Compared, and never converted: an integer may be too large for a float.
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_STEP = 0.5
"""Seconds by which the clock on the wall must have been put right, to be seen."""
_offset = float("inf")
"""Of the clock on the wall, whose own corrections would make a moment move."""


def on_the_wall(moment: float) -> datetime:
    """When it was that ``monotonic()`` said this: aware, in UTC. The same at each call, unless
    somebody has put the clock right since, or the machine has slept."""
    global _offset
    offset = time.time() - monotonic()
    if abs(offset - _offset) > _STEP:
        _offset = offset
    return datetime.fromtimestamp(_offset + moment, UTC)
