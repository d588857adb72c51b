"""The dispatchers of one runner: one for each event loop, and one for the threads."""

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from functools import partial

from ..capacity import Capacity
from .dispatch import Dispatcher, LoopDispatcher
from .thread_dispatch import ThreadDispatcher


class Dispatchers:
    """Made when an exchange needs one. One that is shut has an heir as soon as
    there is a sign of life: another lifespan, another loop, another exchange."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self.begin()

    def begin(self) -> None:
        """None yet, in a new process too: those of its parent have their heirs here."""
        self._lock = threading.Lock()
        self._loops: dict[asyncio.AbstractEventLoop, LoopDispatcher] = {}
        self._apps: Counter[asyncio.AbstractEventLoop] = Counter()
        self.threads: ThreadDispatcher = self._make_threads()

    def _make_threads(self) -> ThreadDispatcher:
        return ThreadDispatcher(self._capacity, lambda: self.threads)

    def of(self, loop: asyncio.AbstractEventLoop) -> LoopDispatcher:
        dispatcher = self._loops.get(loop)
        if dispatcher is None:
            self.abandon_closed()
            made = LoopDispatcher(self._capacity, loop, partial(self.of, loop))
            # In one call: who has come back in meanwhile has the same one.
            dispatcher = self._loops.setdefault(loop, made)
            self._capacity.pool.open()
        return dispatcher

    def of_threads(self) -> ThreadDispatcher:
        while (threads := self.threads).is_shut:
            # A new exchange is a sign of life, and there is no other without a loop.
            self.threads = threads.followed_by(self._make_threads())
            self._capacity.pool.open()
        return threads

    def all(self) -> list[Dispatcher]:
        with self._lock:
            return [*self._loops.values(), self.threads]

    def abandon_closed(self) -> None:
        """Account for what loops had not ended when they were closed."""
        for loop in [*self._loops]:
            if loop.is_closed():
                gone = self._loops.pop(loop, None)
                if gone is not None:
                    gone.abandon()

    def mend(self) -> None:
        """See ``Dispatcher.mend``."""
        self._capacity.pool.mend()
        self._capacity.background.mend()
        for dispatcher in self.all():
            dispatcher.mend()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """An app has started on this loop."""
        with self._lock:
            self._apps[loop] += 1
            if loop in self._loops and self._loops[loop].is_closing:
                # What is being closed, or was, stays so: this is another life.
                del self._loops[loop]

    def detach(self, loop: asyncio.AbstractEventLoop) -> list[Dispatcher]:
        """An app is gone; whose callbacks end with it: all if it was the last one,
        those of this loop if it was the last one there."""
        with self._lock:
            self._apps[loop] -= 1
            if self._apps[loop] > 0:
                return []
            del self._apps[loop]
            mine: list[Dispatcher] = [self._loops[loop]] if loop in self._loops else []
            return mine if self._apps else [*self._loops.values(), self.threads]

    def reopen(self, closed: Sequence[Dispatcher]) -> None:
        """The loops of these go on: what they register later is another life."""
        with self._lock:
            for dispatcher in closed:
                is_known = [loop for loop, known in self._loops.items() if known is dispatcher]
                for loop in is_known:
                    del self._loops[loop]
