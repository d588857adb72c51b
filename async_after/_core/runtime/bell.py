"""What wakes a thread that waits."""

import threading
from contextlib import suppress


class Bell:
    """Wakes one thread that waits for it, or will.

    Not a ``threading.Event``: that has a lock which it holds while its Python code runs, and
    a destructor that rings in the middle of ``set()`` or ``wait()`` would wait for itself.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        # Looked up only now: gevent may have patched it since the import.
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        with suppress(RuntimeError):  # it has been rung, and nobody has heard it yet
            self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Block up to ``timeout`` seconds; whether it has been rung since the last time."""
        if timeout is not None:
            return self._lock.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))
        # With a timer, see ``gevent.wait_for``.
        while not self._lock.acquire(timeout=3600):
            pass
        return True

    def silence(self) -> None:
        """Forget that it has been rung."""
        self._lock.acquire(blocking=False)
