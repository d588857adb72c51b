"""Who may run: the slots of a runner, and the line of those that wait for one.

Promise 9, bounded: at most ``limit`` chains have a slot; the line is first-in,
first-out. What waits for a thread has no slot, and holds nobody up.
"""

from collections import Counter, deque
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..exchange import Callback, Ledger
from ..runtime import Gate, change, log
from .chains import Chain


class Limiter:
    """A part of the books: what is changed here is changed under their lock (``Gate``)."""

    def __init__(self, limit: int, ledger: Ledger) -> None:
        self.begin(limit, ledger)

    def begin(self, limit: int, ledger: Ledger) -> None:
        """Empty it in place, after a fork too: others keep references to its methods."""
        self.limit: int = limit
        self.gate: Gate = ledger.gate
        self._used: int = 0
        self._waiting: deque[Chain] = deque()
        self._returned: deque[Chain] = deque()
        """Those that had a slot once, and no thread: the first in the line, in their order."""
        self._trim_at = 64
        self.lent: Counter[Callback[Any]] = Counter()

    @property
    def used(self) -> int:
        """Slots that are taken."""
        return self._used

    @property
    def free(self) -> int:
        """Slots that are not."""
        return max(0, self.limit - self._used)

    def submit(self, chain: Chain, *, first: bool = False) -> None:
        """Start a chain, or keep it until there is room: at the end of the line, or ``first``
        of all but those that were so before."""
        ready: Sequence[Chain] = ()
        gate = self.gate
        try:
            gate.acquire()
            if gate.is_busy:
                gate.asked.append(partial(self.submit, chain, first=first))
                return
            gate.is_busy = True
            try:
                if not (self._waiting or self._returned) and self._used < self.limit:
                    self._used += 1
                    ready = (chain,)
                else:
                    ready = self._enqueue(chain, first)
            finally:
                gate.is_busy = False
        finally:
            gate.release()
        for each in ready:
            try:
                if not each.go():
                    self.release()
            except Exception:
                self.go_again(each)
        if gate.asked:
            gate.catch_up()

    def go_again(self, chain: Chain) -> None:
        """It has a slot, and something has raised before it began, or went on."""
        self.gate.asked.append(chain.advance)
        self.gate.hurry()
        log("exception", "internal_error", "what starts callbacks failed, and is done once more")

    def _enqueue(self, chain: Chain, first: bool) -> Sequence[Chain]:
        if len(self._waiting) >= self._trim_at:
            # Some may have nothing to start any more.
            self._waiting = deque(chain for chain in self._waiting if not chain.has_nothing())
            self._trim_at = 64 + 2 * len(self._waiting)
        (self._returned if first else self._waiting).append(chain)
        # Those that wait go first: settings may have made room for more.
        ready = []
        while (line := self._returned or self._waiting) and self._used < self.limit:
            ready.append(line.popleft())
            self._used += 1
        return ready

    def give_back(self) -> bool:
        """In a change: a slot, if nobody waits for one; whether it is so."""
        if self._waiting or self._returned:
            return False
        self._used -= 1
        return True

    def release(self) -> None:
        """A slot is free: for the next chain that has something to start."""
        while (chain := self.gate.make(self._pass_on, None, self.release)) is not None:
            try:
                if chain.go():
                    return
            except Exception:
                self.go_again(chain)
                return

    def _pass_on(self) -> Chain | None:
        if (line := self._returned or self._waiting) and self._used <= self.limit:
            return line.popleft()
        self._used -= 1
        return None

    def take(self) -> bool:
        """A slot for a unit that has a thread, if one is free and nobody waits for it."""
        return self.gate.make(self._take, False)

    def _take(self) -> bool:
        if self._waiting or self._returned or self._used >= self.limit:
            return False
        self._used += 1
        return True

    @change
    def trim(self) -> None:
        """Take out the last ones if they have nothing to start any more: they
        would wait in vain, and in ever growing number."""
        while self._waiting and self._waiting[-1].has_nothing():
            self._waiting.pop()

    def take_closed(self) -> list[Chain]:
        """Take those out that will not be started any more."""
        return self.gate.make(self._take_closed, [])

    def _take_closed(self) -> list[Chain]:
        line = [*self._returned, *self._waiting]
        self._returned = deque(chain for chain in self._returned if not chain.is_shut)
        self._waiting = deque(chain for chain in self._waiting if not chain.is_shut)
        return [chain for chain in line if chain.is_shut]

    def lending(self, callback: Callback[Any]) -> "Lending":
        """A callback that only waits for another one lends its slot, or a full
        runner would never get to the one waited for. Its tasks may wait for
        several at once: it has one slot to lend."""
        return Lending(self, callback)

    @change
    def lend(self, callback: Callback[Any]) -> bool:
        callback._is_watched = True
        self.lent[callback] += 1
        return self.lent[callback] == 1

    @change
    def take_back(self, callback: Callback[Any]) -> None:
        if callback in self.lent:
            self.lent[callback] -= 1
            if not self.lent[callback]:
                del self.lent[callback]
                self._used += 1

    @change
    def ended(self, callback: Callback[Any]) -> None:
        # Whoever still waits in its name has no slot to take back.
        self._used += 1 if self.lent.pop(callback, 0) else 0


class Lending:
    """While inside, a callback has lent its slot."""

    __slots__ = ("_callback", "_limiter")

    def __init__(self, limiter: Limiter, callback: Callback[Any]) -> None:
        self._limiter = limiter
        self._callback = callback

    def __enter__(self) -> None:
        if self._limiter.lend(self._callback):
            self._limiter.release()

    def __exit__(self, *error: object) -> None:
        self._limiter.take_back(self._callback)
