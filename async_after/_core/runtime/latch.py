"""A latch that coroutines of any event loop, and threads, can wait for."""

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context

from . import gevent

Listener = Callable[[], None]


class Latch:
    """Opens once and stays open.

    ``asyncio.Event`` belongs to one loop and ``threading.Event`` blocks; a
    callback may be waited for from several loops and from threads at once.
    """

    __slots__ = ("_is_open", "_listeners", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._listeners: list[Listener] = []

    def open(self) -> None:
        with self._lock:
            self._is_open = True
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def subscribe(self, listener: Listener) -> None:
        """Call ``listener`` when the latch opens; at once if it is open.

        A listener is called in the thread that opens the latch. It must
        neither block nor raise.
        """
        with self._lock:
            if not self._is_open:
                self._listeners.append(listener)
                return
        listener()

    def unsubscribe(self, listener: Listener) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    async def wait(
        self, timeout: float | None = None, *, future: "asyncio.Future[None] | None" = None
    ) -> bool:
        """Wait up to ``timeout`` seconds; whether the latch is open. ``future``:
        a new one of the running loop, to wait with."""
        loop = asyncio.get_running_loop()
        opened = loop.create_future() if future is None else future

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(release)
            except RuntimeError:  # that loop is closed: nobody waits there any more
                pass

        def release() -> None:
            if not opened.done():
                opened.set_result(None)

        self.subscribe(wake)
        timer = None
        if timeout is not None:
            # The loop keeps a cancelled timer, with its context, until it would have been due.
            timer = loop.call_later(timeout, release, context=Context())
        try:
            await opened
        finally:
            self.unsubscribe(wake)
            if timer is not None:
                timer.cancel()
        return self._is_open

    def wait_in_thread(self, timeout: float | None = None) -> bool:
        """Block up to ``timeout`` seconds; whether the latch is open."""
        opened = threading.Event()
        self.subscribe(opened.set)
        try:
            if timeout is None:
                gevent.wait_for(opened)
                return True
            return opened.wait(timeout)
        finally:
            self.unsubscribe(opened.set)
