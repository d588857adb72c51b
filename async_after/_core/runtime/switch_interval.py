"""How soon a thread that computes lets the others go on.

A thread that wants the GIL asks for it after the switch interval, 5 ms by default, and the
event loop wants it again behind each system call: a request takes several. So beside a
plain function that computes, each request of the process would take that much longer.
https://docs.python.org/3/library/sys.html#sys.setswitchinterval
"""

import sys
from collections.abc import Callable

from .gate import Gate


class SwitchInterval:
    """The interpreter's switch interval, lower while plain functions run in threads.

    ``seconds``: how low; ``None`` leaves it alone. It is never raised, and what somebody
    else sets meanwhile stays.
    """

    def __init__(self, seconds: Callable[[], float | None]) -> None:
        self._seconds = seconds

    def lower(self) -> None:
        seconds = self._seconds()
        if seconds is not None:
            _wanted[self] = seconds
            _apply()

    def restore(self) -> None:
        if _wanted.pop(self, None) is not None:
            _apply()


# The interpreter has one for all runners.
_gate = Gate()
_wanted: dict[SwitchInterval, float] = {}
_before: float | None = None
"""What it was before we lowered it, ..."""
_ours = 0.0
"""... to this, as the interpreter has rounded it."""


def _apply() -> None:
    _gate.make(_set, None, _apply)


def _set() -> None:
    global _before, _ours
    now, wanted = sys.getswitchinterval(), [*_wanted.values()]
    before = now if _before is None or now != _ours else _before
    target = min([before, *wanted])
    if target != now:
        sys.setswitchinterval(target)
    _before, _ours = before if wanted else None, sys.getswitchinterval()


def forget() -> None:
    """In a process that was forked off, nothing runs yet."""
    global _gate
    # Another thread of the parent may have held it at that moment.
    _gate = Gate()
    _wanted.clear()
    _apply()
