"""The one thread that keeps deadlines where there is no event loop."""

import threading
import time
import weakref

from async_after._core.runtime import Timers

from ..conftest import DEADLINE


class Called:
    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self) -> None:
        self.event.set()


def test_nothing_is_kept_that_was_called() -> None:
    """The thread waits for the next deadline, an hour from now, without it."""
    timers = Timers()
    cancel = timers.call_later(3600, lambda: None)
    function = Called()
    event, reference = function.event, weakref.ref(function)
    timers.call_later(0, function)
    del function
    assert event.wait(DEADLINE)
    deadline = time.monotonic() + DEADLINE
    while reference() is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    cancel()
    assert reference() is None
