"""Deadlines for work in threads, where no event loop keeps them; and those of event loops."""

import asyncio
import heapq
import itertools
import os
import threading
from _thread import RLock
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context

from . import gevent
from .bell import Bell
from .clock import is_frozen, monotonic
from .log import log


class Timers:
    """Calls functions at a later time, in one daemon thread of its own.

    The thread starts with the first timer and ends when there is none left,
    ``linger`` seconds later, so that neither an idle process nor one that
    forks has it.
    """

    def __init__(self, linger: float = 0.0) -> None:
        self._linger = linger
        # Re-entrant, as a destructor may come back here between any two bytecodes: what is put
        # in then is in ``_functions``, and in the heap that is there at that moment.
        self._lock: RLock = RLock()
        self._bell = Bell()
        self._heap: list[tuple[float, int]] = []
        self._functions: dict[int, tuple[float, Callable[[], None]]] = {}
        """Those not yet called or cancelled, with their time; the heap may know more."""
        self._order = itertools.count()
        self._hurried = 0
        """Those with a smaller number are due, whatever their time is."""
        self._is_running = False
        self._thread: threading.Thread | None = None
        self._linger_left = linger

    def call_later(self, delay: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call ``function`` in ``delay`` seconds; what is returned cancels that.

        ``function`` must not raise: it is called once more then. It may still be called when
        the cancelling comes at the same time.
        """
        due = monotonic() + delay
        with self._lock:
            number = next(self._order)
            self._functions[number] = due, function
            heapq.heappush(self._heap, (due, number))
        if not gevent.go_home(self._wake):
            self._wake()

        def cancel() -> None:
            with self._lock:
                if self._functions.pop(number, None) is None:
                    return
                if len(self._heap) > 64 and len(self._heap) > 2 * len(self._functions):
                    # Behind one long timer the cancelled ones would pile up.
                    self._sort()
            self._bell.ring()

        return cancel

    def _wake(self) -> None:
        with self._lock:
            if self._is_running:
                self._bell.ring()
                return
            self._is_running = True  # first: who comes back in starts no other one
            try:
                thread = threading.Thread(target=self._run, name="async_after timers", daemon=True)
                self._thread = thread
                Context().run(thread.start)
            except Exception as error:
                self._is_running = False
                # Not at interpreter exit, which has a deadline of its own.
                if type(error) is not RuntimeError:
                    raise

    def is_here(self) -> bool:
        """Whether this is its thread."""
        return threading.current_thread() is self._thread

    @property
    def is_running(self) -> bool:
        """Whether there is the thread: at interpreter exit none can be started (3.12)."""
        return self._is_running

    def hurry(self) -> None:
        """Call what is left now, so that the thread ends."""
        with self._lock:
            self._hurried = next(self._order)
            self._linger_left = 0.0
            self._sort()
        self._bell.ring()

    def _sort(self) -> None:
        """Make the heap anew, of those that are left."""
        while True:
            left = [*self._functions.items()]
            self._heap = [(self._due(number, due), number) for number, (due, _) in left]
            heapq.heapify(self._heap)
            # Who has come back in meanwhile has put his into the old one.
            if self._functions.keys() <= {number for _, number in self._heap}:
                return

    def _due(self, number: int, due: float) -> float:
        return float("-inf") if number < self._hurried else due

    def _run(self) -> None:
        while True:
            function, seconds = self._next()
            if function is None and seconds is None:
                return
            if function is None:
                self._bell.wait(seconds)
                continue
            try:
                function()
            except BaseException:  # a handler of the user's, or no memory is left
                log("exception", "internal_error", "a timer failed, and is called once more")
                self._call_again(function)
            # Or this thread would keep its callback until the next one is due.
            del function

    def _call_again(self, function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException:
            log("exception", "internal_error", "a timer failed")

    def _next(self) -> tuple[Callable[[], None] | None, float | None]:
        """What is due; or for how long to wait; or neither, at the end of the thread."""
        with self._lock:
            while (first := self._pop()) is not None:
                due, number = first
                if number not in self._functions:
                    continue
                self._linger_left = self._linger
                delay = due - monotonic()
                if delay > 0:
                    heapq.heappush(self._heap, (due, number))
                    return None, delay
                entry = self._functions.pop(number, None)
                if entry is not None:
                    return entry[1], 0.0
            linger, self._linger_left = self._linger_left, 0.0
            if linger:
                return None, linger
            self._is_running = False
            if not self._functions or self._is_running:
                return None, None
            # It has come in since, and nobody serves it.
            self._is_running = True
            return None, 0.0

    def _pop(self) -> tuple[float, int] | None:
        try:
            return heapq.heappop(self._heap)
        except IndexError:  # not asked before: somebody may come back in after that
            return None


_EARLY = 0.01
"""Seconds by which a loop may be too early: some count milliseconds."""


class LoopTimer:
    """Calls a function in so many seconds, in the loop's thread, where this is made.

    By our clock: that of a loop of asyncio stands still, and jumps, where a test freezes time.
    """

    __slots__ = ("_arguments", "_cancels", "_due", "_function", "_loop")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        function: Callable[..., object],
        *arguments: object,
    ) -> None:
        self._loop = loop
        self._function = function
        self._arguments = arguments
        self._due = monotonic() + seconds
        self._cancels: tuple[Callable[[], None], ...] = ()
        self._set(seconds)

    def _set(self, seconds: float) -> None:
        if is_frozen():
            self._cancels = (_of_loops.call_later(seconds, self._tell_loop),)
        else:
            # The loop keeps a cancelled timer, with its context, until it would have been due.
            later, context = self._loop.call_later, Context()
            first = later(seconds, self._ring, context=context)
            # Nobody else would come, if no stack or no memory is left for the first.
            second = later(seconds + _EARLY, self._ring, context=context)
            self._cancels = first.cancel, second.cancel

    def _tell_loop(self) -> None:
        with suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._ring, context=Context())

    def _ring(self) -> None:
        if not self._cancels:
            return
        left = self._due - monotonic()
        if left > _EARLY:
            self.cancel()
            self._set(left)
            return
        self._function(*self._arguments)
        self.cancel()

    def cancel(self) -> None:
        cancels, self._cancels = self._cancels, ()
        for cancel in cancels:
            cancel()


_of_loops = Timers()
"""Where the clock of the loops is frozen."""


def _forked() -> None:
    global _of_loops
    _of_loops = Timers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
