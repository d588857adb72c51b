"""The life of the process: what forks and what ends with it.

Promise 10, drained: at the exit of the interpreter what is left is waited for,
and named. (Whoever speaks lifespan has drained its runner long before.)
"""

import importlib
import math
import os
import sys
import threading
import traceback
from _thread import RLock
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol
from weakref import ref

from . import gevent, switch_interval
from .clock import monotonic
from .gate import Gate


class Living(Protocol):
    """A runner, seen from below."""

    def gates(self) -> Sequence[Gate]:
        """Those of its books: held over a fork, so that they are whole in the child."""

    def begin_life(self) -> None:
        """Forget all, in a process that was forked off."""

    def follow_settings(self) -> None:
        """Django's settings have changed."""

    def close_at_exit(self, began: float, goes_on: bool) -> Generator[None, float, None]:
        """Within its timeouts, from when the exit ``began``. It is told, again and again, how
        long it may wait at a stretch. ``goes_on``: the exit has not begun for the other threads,
        and requests that are being answered go on."""


_all: "dict[int, ref[Living]]" = {}
making: RLock = RLock()
"""For the moments in which something is made that there is one of."""
forks: int = 0
"""How many forks lie between the first process and this one."""
_forked_by = 0
"""The thread, or greenlet, that made the last one."""
_SLICE = 0.01
"""Seconds that each of several runners waits, at the exit, before it is the turn of the next."""
_held: list[RLock] = []
"""While this process forks: ``making`` first, so that one thread at a time takes them."""


def has_other_threads() -> bool:
    """Whether there are threads besides the main one and our own."""
    return any(
        thread is not threading.main_thread() and not thread.name.startswith("async_after")
        for thread in threading.enumerate()
    )


def look_after(living: Living) -> None:
    # Not a WeakSet: who comes back in may make another one while its Python code runs.
    key = id(living)
    _all[key] = ref(living, partial(_forget, key))


def _forget(key: int, gone: "ref[Living]") -> None:
    if _all.get(key) is gone:
        del _all[key]


def living() -> list[Living]:
    """All runners that there are."""
    return [each for known in [*_all.values()] if (each := known()) is not None]


def is_inside() -> bool:
    """Whether this thread has come back in, by a destructor or a signal handler say, while it
    has the lock of a runner: it can wait for nobody here."""
    return any(gate.is_inside() for each in living() for gate in each.gates())


def _before_fork() -> None:
    making.acquire()
    for each in living():
        for gate in each.gates():
            gate.lock.acquire()
            _held.append(gate.lock)


def _in_parent() -> None:
    while _held:
        _held.pop().release()
    making.release()


def _forked() -> None:
    global making, forks, _forked_by
    forks, _forked_by = forks + 1, threading.get_ident()
    making = RLock()
    _held.clear()
    gevent.forget_home()
    switch_interval.forget()
    for each in living():
        each.begin_life()


def is_childs() -> bool:
    """Whether the thread, or greenlet, that has forked this process is this one."""
    return threading.get_ident() == _forked_by


def end_child(error: BaseException | None) -> None:
    """The work of a child process is done, or has raised this: it would go on as its parent.

    As ``multiprocessing`` does: the handlers of the exit are the parent's."""
    code: Any = None if error is None else 1
    if issubclass(type(error), SystemExit):
        with suppress(Exception):  # it refuses to tell
            code = getattr(error, "code", None)
    with suppress(Exception):
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code & 0xFF if isinstance(code, int) else int(code is not None))


def close_all(*, goes_on: bool = False) -> None:
    """Close all runners within their timeouts."""
    close(living(), goes_on)


def close(living: Iterable[Living], goes_on: bool) -> None:
    """Side by side: none of them uses up the time of another."""
    began = monotonic()
    closing = [each.close_at_exit(began, goes_on) for each in living]
    begun: set[Generator[None, float, None]] = set()
    try:
        while closing:
            for each in [*closing]:
                at_a_stretch = _SLICE if len(closing) > 1 else math.inf
                try:
                    each.send(at_a_stretch) if each in begun else next(each)
                    begun.add(each)
                except StopIteration:
                    closing.remove(each)
                except Exception:
                    traceback.print_exc()
                    closing.remove(each)
    finally:
        # Ctrl-C, say: what is lost is named all the same.
        for each in closing:
            each.close()


def _register_at_exit() -> None:
    """The one door to ``threading._register_atexit``.

    What ``atexit`` calls comes too late: no executor works any more by then,
    and threads that a callback needs may be gone. This is what
    ``concurrent.futures`` itself uses. Python 3.12 starts no thread there any
    more (python/cpython#104690): callbacks that need one are lost, and named.

    The last one that is registered is called first. ``concurrent.futures.thread`` shuts all
    executors there, so it must be loaded before.
    """
    importlib.import_module("concurrent.futures.thread")
    threading._register_atexit(close_all)  # type: ignore[attr-defined]


_register_at_exit()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_forked)
