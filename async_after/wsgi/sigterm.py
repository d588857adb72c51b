"""An opt-in for servers that are killed by SIGTERM: their callbacks first.

Promise 10, drained: waitress, cheroot, wsgiref and ``runserver --noreload`` do not
handle SIGTERM, so that Python ends at once, and nothing in it hears of that.
"""

import _thread
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from .._core.runtime import log, monotonic, process


def drain_on_sigterm() -> bool:
    """Let SIGTERM wait for callbacks, within the runner's timeouts, and then
    do what it does without this. A second one, a second later, does that at once.

    Whether that was done: not where somebody else handles SIGTERM already
    (gunicorn, uvicorn, Django's autoreloader), and ends the interpreter in an
    orderly way, where callbacks are waited for anyway. Call it in the main
    thread, in ``wsgi.py`` say: Python sets signal handlers nowhere else.
    """
    if threading.current_thread() is not threading.main_thread():
        log(
            "warning",
            "sigterm_not_handled",
            "drain_on_sigterm() was called in thread %s and does nothing: Python sets signal"
            " handlers in the main thread only. Call it where the server is started.",
            threading.current_thread().name,
        )
        return False
    handler = signal.getsignal(signal.SIGTERM)
    if handler is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _drain)
    return handler in (signal.SIG_DFL, _drain)


_AT_ONCE = 1.0
"""Seconds in which a second signal is the same one: who ends a process may
signal it and its group (coreutils' ``timeout``)."""

_began: float | None = None


def _forked() -> None:
    global _began
    _began = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _drain(number: int, frame: FrameType | None) -> Any:
    global _began
    if _began is None:
        _began = monotonic()
        # Not here: this thread may hold one of our locks at this moment. And
        # not with threading, which has a lock of its own.
        _thread.start_new_thread(_drain_and_end, (number,))
    elif monotonic() - _began > _AT_ONCE:
        _end(number)


def _drain_and_end(number: int) -> None:
    try:
        process.close_all(goes_on=True)
    finally:
        global _began
        _began = float("-inf")
        os.kill(os.getpid(), number)
        # The handler needs the main thread, which may be in some long C call.
        time.sleep(_AT_ONCE)
        os._exit(128 + number)


def _end(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
