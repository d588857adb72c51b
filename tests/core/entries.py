"""Helpers: an exception where the n-th function of the core is entered.

A RecursionError comes there, and a MemoryError may. By the thread that is at it, or another.
"""

import functools
import itertools
import sys
import threading
from _thread import get_ident
from types import CodeType, FrameType, TracebackType
from typing import Any

from .bytecodes import CORE, codes


class AtEntry:
    """Inside, ``error`` is raised at entry ``number`` (from 1) of the core's functions. They are
    counted in this thread, or (``elsewhere``) in all others together."""

    def __init__(self, number: int, error: BaseException, *, elsewhere: bool = False) -> None:
        self.number = number
        self.error = error
        self._elsewhere = elsewhere
        self._here = get_ident()
        self._count = itertools.count(1)
        self._is_over = False
        self.where: list[str] = []
        """Where it was raised."""

    @property
    def seen(self) -> int:
        """How many entries there were."""
        return next(self._count) - 1

    def __enter__(self) -> "AtEntry":
        if sys.version_info < (3, 12):
            (threading if self._elsewhere else sys).settrace(self._trace)
        else:
            _instrument()
            _monitoring.register_callback(TOOL, _monitoring.events.PY_START, self._start)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over = True
        if sys.version_info < (3, 12):
            (threading if self._elsewhere else sys).settrace(None)
        else:
            _monitoring.register_callback(TOOL, _monitoring.events.PY_START, None)

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if self._is_over:  # a thread that goes on
            sys.settrace(None)
            return None
        # A generator that goes on is "called", too.
        if frame.f_lasti <= 4 and f"{frame.f_globals.get('__name__')}.".startswith(CORE):
            self._enter(frame.f_code)
        return None

    def _start(self, code: CodeType, offset: int) -> None:
        if (get_ident() != self._here) is self._elsewhere:
            self._enter(code)

    def _enter(self, code: CodeType) -> None:
        if next(self._count) == self.number:
            self.where.append(f"{code.co_qualname}, {code.co_filename}:{code.co_firstlineno}")
            raise self.error


_monitoring: Any = getattr(sys, "monitoring", None)
TOOL = 1
"""The number of the coverage tools', where none is at work; see ``tests.core.bytecodes``."""


@functools.cache
def _instrument() -> None:
    _monitoring.use_tool_id(TOOL, "async_after tests: entries")
    for code, name in codes():
        if name.startswith(CORE):
            _monitoring.set_local_events(TOOL, code, _monitoring.events.PY_START)
