"""A latch that coroutines of any event loop, and threads, can wait for."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from .bell import Bell
from .timers import LoopTimer

Listener = Callable[[], None]


class Latch:
    """Opens once and stays open.

    ``asyncio.Event`` belongs to one loop and ``threading.Event`` blocks; a
    callback may be waited for from several loops and from threads at once.
    """

    # No lock: a destructor may come back here. Who opens sets the mark and then looks for
    # listeners, who listens does it the other way round, and each is popped by one of them.
    __slots__ = ("_is_open", "_listeners")

    def __init__(self) -> None:
        self._is_open = False
        self._listeners: deque[Listener] = deque()

    def open(self) -> None:
        self._is_open = True
        while self._listeners:
            try:
                listener = self._listeners.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                listener()
            except Exception:  # no stack is left, say: whoever opens it once more calls it
                self._listeners.append(listener)
                raise

    def subscribe(self, listener: Listener) -> None:
        """Call ``listener`` when the latch opens; at once if it is open.

        A listener is called in the thread that opens the latch. It must
        neither block nor raise.
        """
        self._listeners.append(listener)
        if self._is_open:
            self.open()

    def unsubscribe(self, listener: Listener) -> None:
        with suppress(ValueError):  # it has been called
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
                # Twice: nobody else would come, if no memory is left for the first.
                loop.call_soon_threadsafe(release)
                loop.call_soon_threadsafe(release)
            except RuntimeError:  # that loop is closed: nobody waits there any more
                pass

        def release() -> None:
            if not opened.done():
                opened.set_result(None)

        self.subscribe(wake)
        timer = None if timeout is None else LoopTimer(loop, timeout, release)
        try:
            await opened
        finally:
            self.unsubscribe(wake)
            if timer is not None:
                timer.cancel()
        return self._is_open

    def wait_in_thread(self, timeout: float | None = None) -> bool:
        """Block up to ``timeout`` seconds; whether the latch is open."""
        bell = Bell()
        self.subscribe(bell.ring)
        try:
            return bell.wait(timeout)
        finally:
            self.unsubscribe(bell.ring)
