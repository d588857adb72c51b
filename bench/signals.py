"""A Ctrl-C that comes at a bad moment."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """A Ctrl-C between the start of a process and its entry in the books comes behind both."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals raise nothing here
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = [(n, signal.signal(n, lambda number, _: came.append(number))) for n in numbers]
    try:
        yield
    finally:
        for number, handler in former:
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
