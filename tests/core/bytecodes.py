"""Helpers: work that is done before the n-th bytecode of the core, by the thread that is at it.

A destructor, a weakref callback, a signal or log handler may run between any two bytecodes.
"""

import functools
import gc
import itertools
import sys
import threading
from _thread import get_ident
from collections.abc import Callable, Iterator
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any

CORE = ("async_after._core.", "async_after.wsgi.dispatch")
"""What is on a callback's way, ..."""
WITH = ("threading.Condition", "threading.Event", "_weakrefset.WeakSet")
"""... and what of the standard library it calls that is Python code, and has something to lose.
(Not how threads start: a thread that is started and joined there never ends, whoever does it.)"""


def _name(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__', '')}.{frame.f_code.co_qualname}"


def is_core(frame: FrameType) -> bool:
    name = _name(frame)
    if name.startswith(WITH):
        before = frame.f_back
        return before is not None and is_core(before)
    return name.startswith(CORE)


class AtBytecode:
    """Inside, ``work`` is done before bytecode ``number`` (from 1) of the core, and then again
    before each ``every``-th behind it, at most ``times``. They are counted in this thread, or
    (``elsewhere``) in all others together."""

    def __init__(
        self,
        number: int,
        work: Callable[[], None],
        *,
        elsewhere: bool = False,
        every: int = 0,
        times: int = 1,
    ) -> None:
        self.number = number
        self._work = work
        self._elsewhere = elsewhere
        self._every = every
        self._left = times
        self._count = itertools.count(1)
        self._next = number
        self.where: list[str] = []
        """Where it was done."""
        self.is_at_work = False
        self.failures: list[BaseException] = []
        """What it has raised, which a destructor must not."""

    def __enter__(self) -> "AtBytecode":
        _watch.begin(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _watch.end(self)
        self._left = 0

    @property
    def seen(self) -> int:
        """How many there were."""
        return next(self._count) - 1

    def comes(self) -> bool:
        """Whether the next one is it. ``next`` of a count is one step, in whichever thread."""
        if next(self._count) != self._next or self._left <= 0:
            return False
        self.is_at_work = True
        return True

    def hit(self, frame: FrameType) -> None:
        self._left -= 1
        self._next += self._every
        if not self._left:
            _watch.end(self)
        name = _name(frame).removeprefix("async_after.")
        self.where.append(f"{name}:{frame.f_lineno}+{frame.f_lasti}")
        try:
            self._work()
        except BaseException as error:
            self.failures.append(error)
        finally:
            self.is_at_work = False


class _Traced:
    """By ``sys.settrace``: before Python 3.12."""

    def begin(self, at: AtBytecode) -> None:
        trace = functools.partial(self._trace, at)
        if at._elsewhere:
            threading.settrace(trace)
        else:
            sys.settrace(trace)

    def end(self, at: AtBytecode) -> None:
        if at._elsewhere:
            threading.settrace(None)
        else:
            sys.settrace(None)

    def _trace(self, at: AtBytecode, frame: FrameType, event: str, argument: object) -> Any:
        if not at._left:
            sys.settrace(None)
        elif is_core(frame):
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return functools.partial(self._step, at)
        return None

    def _step(self, at: AtBytecode, frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode" and at.comes():
            at.hit(frame)
        return functools.partial(self._step, at)


class _Monitored:
    """By ``sys.monitoring``: later the other way misses the first call of each function."""

    def begin(self, at: AtBytecode) -> None:
        others, here, elsewhere = self._instrument(), get_ident(), at._elsewhere
        comes, frame_of = at.comes, sys._getframe

        def instruction(code: CodeType, offset: int) -> None:
            if (get_ident() == here) is elsewhere or (code in others and not is_core(frame_of(1))):
                return
            if comes():
                at.hit(frame_of(1))

        _monitoring.register_callback(TOOL, _monitoring.events.INSTRUCTION, instruction)

    def end(self, at: AtBytecode) -> None:
        _monitoring.register_callback(TOOL, _monitoring.events.INSTRUCTION, None)

    @functools.cache  # noqa: B019 -- there is one
    def _instrument(self) -> set[CodeType]:
        """For the rest of the process: it only costs where somebody listens. What is of the
        standard library."""
        others: set[CodeType] = set()
        _monitoring.use_tool_id(TOOL, "async_after tests")
        for code, name in codes():
            _monitoring.set_local_events(TOOL, code, _monitoring.events.INSTRUCTION)
            if name.startswith(WITH):
                others.add(code)
        return others


def codes() -> Iterator[tuple[CodeType, str]]:
    """Of all functions of the core, and those inside of them; and whose they are."""
    functions = [each for each in gc.get_objects() if type(each) is FunctionType]
    for function in functions:
        if type(function.__module__) is not str:  # of a test with odd functions
            continue
        name = f"{function.__module__}.{function.__qualname__}"
        if name.startswith(CORE + WITH):
            for code in _with_inner(function.__code__):
                yield code, name


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)


_monitoring: Any = getattr(sys, "monitoring", None)
TOOL = 0
"""The number of the debugger's, which is nobody's here."""
_watch = _Traced() if sys.version_info < (3, 12) else _Monitored()
