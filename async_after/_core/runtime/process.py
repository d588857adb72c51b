"""The life of the process: what forks and what ends with it.

Promise 10, drained: at the exit of the interpreter what is left is waited for,
and named. (Whoever speaks lifespan has drained its runner long before.)
"""

import importlib
import os
import threading
import time
import traceback
from _thread import LockType
from typing import Protocol
from weakref import WeakSet

from . import gevent, switch_interval


class Living(Protocol):
    """A runner, seen from below."""

    def begin_life(self) -> None:
        """Forget all, in a process that was forked off."""

    def close_at_exit(self, waited: float, goes_on: bool) -> None:
        """``waited``: seconds since the exit began. ``goes_on``: it has not begun
        for the other threads, and requests that are being answered go on."""


_all: "WeakSet[Living]" = WeakSet()
making: LockType = threading.Lock()
"""For the moments in which something is made that there is one of."""


def has_other_threads() -> bool:
    """Whether there are threads besides the main one and our own."""
    return any(
        thread is not threading.main_thread() and not thread.name.startswith("async_after")
        for thread in threading.enumerate()
    )


def look_after(living: Living) -> None:
    _all.add(living)


def _forked() -> None:
    global making
    # Another thread of the parent may have held it at that moment.
    making = threading.Lock()
    gevent.forget_home()
    switch_interval.forget()
    for each in [*_all]:
        each.begin_life()


def close_all(*, goes_on: bool = False) -> None:
    """Close all runners, one after the other, within their timeouts."""
    began = time.monotonic()
    for each in [*_all]:
        try:
            each.close_at_exit(time.monotonic() - began, goes_on)
        except Exception:
            traceback.print_exc()


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
    os.register_at_fork(after_in_child=_forked)
