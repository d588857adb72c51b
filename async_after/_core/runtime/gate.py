"""The one lock on a callback's way, which its own thread may come back to at any moment.

The protocol. A *change* is what is done with ``is_busy`` set, under ``lock``.

1. ``lock`` is re-entrant and names its owner in the C call that takes it: a thread never waits
   for itself. It comes back by a destructor or a weakref callback (the collector runs between
   any two bytecodes), a signal or log handler, or as another greenlet.
2. Who has the lock and finds ``is_busy`` set has come back in the middle of a change. It changes
   nothing: it puts what it wants into ``asked``, and goes on. Before ``is_busy`` is set and after
   it is cleared the books are whole: who comes back there makes its change at once.
3. Who was busy does what was asked, in order, without the lock (``catch_up``).
4. A change makes its calls first and its assignments last, and calls nothing of the user's: it
   cannot raise half way, by a RecursionError say. What it drops is dropped behind the lock.
5. Answers: a handle needs none, as it is a Callback at once. ``cancel()`` of a pending one marks
   it and says True; who makes it RUNNING looks at the mark behind that, and leaves it.
6. A fork takes the lock first, so that the books are whole in the child, and renews it there.
"""

import _thread
from _thread import RLock
from collections import deque
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Protocol, TypeVar

from .log import log

T = TypeVar("T")


class Gate:
    """The lock of a runner. Those on the way write its use out, as a call costs as much, and
    ``with`` costs twice as much as what it does::

    try:
        gate.acquire()  # inside: a signal handler may raise as soon as it is taken
        if gate.is_busy:
            gate.asked.append(...)
            return
        gate.is_busy = True
        try:
            ...  # the change
        finally:
            gate.is_busy = False
    finally:
        gate.release()
    if gate.asked:
        gate.catch_up()
    """

    __slots__ = ("_is_catching_up", "acquire", "asked", "is_busy", "lock", "release")

    def __init__(self) -> None:
        # Not threading.RLock, which gevent makes a lock of greenlets: nobody blocks in a change.
        self.lock: RLock = RLock()
        self.acquire: Callable[[], bool] = self.lock.acquire
        self.release: Callable[[], None] = self.lock.release
        self.is_busy: bool = False
        self.asked: deque[Callable[[], object]] = deque()
        self._is_catching_up = False

    def is_inside(self) -> bool:
        """Whether this thread has the lock: it has come back in, and can wait for nobody."""
        return self.lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def look(self, question: Callable[[], T]) -> T:
        """The answer, while nothing changes: who comes back in meanwhile changes it behind that.
        It is answered in the middle of a change, too."""
        with self.lock:
            was_busy, self.is_busy = self.is_busy, True
            try:
                answer = question()
            finally:
                self.is_busy = was_busy
        if self.asked and not was_busy:
            self.catch_up()
        return answer

    def catch_up(self) -> None:
        """Do what was asked meanwhile. What that asks in turn is done here too, not deeper. Not
        in the middle of a change: it would only be asked again."""
        while self.asked and not self._is_catching_up and not (self.is_busy and self.is_inside()):
            self._is_catching_up = True
            try:
                while self.asked:
                    self._do(self.asked.popleft())
            except IndexError:  # another thread was faster
                pass
            finally:
                # Then once more: who has asked while this was set has left it to us.
                self._is_catching_up = False

    def catch_up_or_later(self) -> None:
        """The same, by another thread if there is no stack left for it."""
        try:
            self.catch_up()
        except RecursionError:
            _thread.start_new_thread(self.catch_up, ())

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception:
            log("exception", "internal_error", "what was asked in the middle of a change failed")


class Gated(Protocol):
    gate: Gate


def change(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that is one change of what has the gate; it says ``None`` when it is put off.
    (For those that are not on the way of every callback.)"""

    @wraps(method)
    def changing(self: Gated, *arguments: Any) -> Any:
        gate = self.gate
        try:
            gate.acquire()
            if gate.is_busy:
                gate.asked.append(partial(changing, self, *arguments))
                return None
            gate.is_busy = True
            try:
                result = method(self, *arguments)
            finally:
                gate.is_busy = False
        finally:
            gate.release()
        if gate.asked:
            gate.catch_up()
        return result

    return changing
