"""How much of the stack is left: what must not be cut short looks before it begins."""

import sys

_NEEDED = 100
"""Frames: what is done here, with what a log handler does, takes a few dozen."""


def check_stack() -> None:
    """Raise ``RecursionError`` now, when nothing is changed yet, and not half way."""
    try:
        # (Before Python 3.12 calls in C are counted too.)
        sys._getframe(sys.getrecursionlimit() // 3)
    except ValueError:  # it is not so deep
        return
    _use(_NEEDED)


def _use(frames: int) -> None:
    if frames:
        _use(frames - 1)
