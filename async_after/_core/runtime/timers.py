"""Deadlines for work in threads, where no event loop keeps them."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

from . import gevent
from .log import log


class Timers:
    """Calls functions at a later time, in one daemon thread of its own.

    The thread starts with the first timer and ends when there is none left,
    ``linger`` seconds later, so that neither an idle process nor one that
    forks has it.
    """

    def __init__(self, linger: float = 0.0) -> None:
        self._linger = linger
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int]] = []
        self._functions: dict[int, Callable[[], None]] = {}
        """Those not yet called or cancelled; the heap may know more."""
        self._order = itertools.count()
        self._is_running = False
        self._thread: threading.Thread | None = None
        self._linger_left = linger

    def call_later(self, delay: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call ``function`` in ``delay`` seconds; what is returned cancels that.

        ``function`` must not raise. It may still be called when the
        cancelling comes at the same time.
        """
        with self._changed:
            number = next(self._order)
            heapq.heappush(self._heap, (time.monotonic() + delay, number))
            self._functions[number] = function
        if not gevent.go_home(self._wake):
            self._wake()

        def cancel() -> None:
            with self._changed:
                if self._functions.pop(number, None) is None:
                    return
                if len(self._heap) > 64 and len(self._heap) > 2 * len(self._functions):
                    # Behind one long timer the cancelled ones would pile up.
                    self._heap = [entry for entry in self._heap if entry[1] in self._functions]
                    heapq.heapify(self._heap)
                self._changed.notify()

        return cancel

    def _wake(self) -> None:
        with self._changed:
            if self._is_running:
                self._changed.notify()
                return
            thread = threading.Thread(target=self._run, name="async_after timers", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # at interpreter exit, which has a deadline of its own
                return
            self._thread = thread
            self._is_running = True

    def is_here(self) -> bool:
        """Whether this is its thread."""
        return threading.current_thread() is self._thread

    @property
    def is_running(self) -> bool:
        """Whether there is the thread: at interpreter exit none can be started (3.12)."""
        return self._is_running

    def hurry(self) -> None:
        """Call what is left now, so that the thread ends."""
        with self._changed:
            self._heap = [(float("-inf"), number) for _, number in self._heap]
            self._linger_left = 0.0
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._heap and self._heap[0][1] not in self._functions:
                    heapq.heappop(self._heap)
                if not self._heap:
                    linger, self._linger_left = self._linger_left, 0.0
                    if linger:
                        self._changed.wait(linger)
                        continue
                    self._is_running = False
                    return
                self._linger_left = self._linger
                due, number = self._heap[0]
                delay = due - time.monotonic()
                if delay > 0:
                    self._changed.wait(min(delay, threading.TIMEOUT_MAX))
                    continue
                heapq.heappop(self._heap)
                function = self._functions.pop(number)
            try:
                function()
            except BaseException:  # a handler of the user's, or a defect of ours
                log("exception", "internal_error", "a timer failed")
            # Or this thread would keep its callback until the next one is due.
            del function
