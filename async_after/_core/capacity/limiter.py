"""Who may run: the slots of a runner, and the line of those that wait for one.

Promise 9, bounded: at most ``limit`` chains have a slot; the line is first-in,
first-out.
"""

import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..exchange import Callback
from .chains import Chain


class Limiter:
    def __init__(self, limit: int) -> None:
        self.begin(limit)

    def begin(self, limit: int) -> None:
        """Empty it in place, after a fork too: others keep references to its methods."""
        self.limit: int = limit
        self._lock = threading.Lock()
        self._used = 0
        self._waiting: deque[Chain] = deque()
        self._trim_at = 64
        self.lent: Counter[Callback[Any]] = Counter()

    @property
    def used(self) -> int:
        """Slots that are taken."""
        return self._used

    def submit(self, chain: Chain) -> None:
        """Start a chain, or keep it until there is room."""
        limit = self.limit
        ready: list[Chain] = []
        with self._lock:
            if not self._waiting and self._used < limit:
                self._used += 1
                ready.append(chain)
            else:
                self._enqueue(chain, limit, ready)
        for chain in ready:
            chain.advance()

    def _enqueue(self, chain: Chain, limit: int, ready: list[Chain]) -> None:
        # Those that wait go first: settings may have made room for more.
        self._waiting.append(chain)
        if len(self._waiting) > self._trim_at:
            # Some may have nothing to start any more.
            self._waiting = deque(chain for chain in self._waiting if not chain.is_empty())
            self._trim_at = 64 + 2 * len(self._waiting)
        while self._waiting and self._used < limit:
            self._used += 1
            ready.append(self._waiting.popleft())

    def release(self) -> None:
        """A slot is free: for the next chain that has something to start."""
        limit = self.limit
        while True:
            with self._lock:
                if not self._waiting or self._used > limit:
                    self._used -= 1
                    return
                chain = self._waiting.popleft()
            if chain.go():
                return

    def trim(self) -> None:
        """Take out the last ones if they have nothing to start any more: they
        would wait in vain, and in ever growing number."""
        with self._lock:
            while self._waiting and self._waiting[-1].is_empty():
                self._waiting.pop()

    def take_closed(self) -> list[Chain]:
        """Take those out that will not be started any more."""
        with self._lock:
            closed = [chain for chain in self._waiting if chain.is_closed()]
            self._waiting = deque(chain for chain in self._waiting if not chain.is_closed())
        return closed

    @contextmanager
    def lending(self, callback: Callback[Any]) -> Iterator[None]:
        """A callback that only waits for another one lends its slot, or a full
        runner would never get to the one waited for. Its tasks may wait for
        several at once: it has one slot to lend."""
        with self._lock:
            self.lent[callback] += 1
            lends = self.lent[callback] == 1
        if lends:
            self.release()
        try:
            yield
        finally:
            with self._lock:
                if callback in self.lent:
                    self.lent[callback] -= 1
                    if not self.lent[callback]:
                        del self.lent[callback]
                        self._used += 1

    def ended(self, callback: Callback[Any]) -> None:
        with self._lock:
            # Whoever still waits in its name has no slot to take back.
            self._used += 1 if self.lent.pop(callback, 0) else 0
