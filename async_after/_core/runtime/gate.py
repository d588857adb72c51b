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
   cannot raise half way, by a RecursionError say. What it drops is dropped behind the lock. What
   follows from it, and has raised, is asked for, and so done once more.
5. Answers: a handle needs none, as it is a Callback at once. ``cancel()`` of a pending one marks
   it and says True; who makes it RUNNING looks at the mark behind that, and leaves it.
6. A fork takes the lock first, so that the books are whole in the child, and renews it there.
"""

import _thread
from _thread import RLock
from collections import deque
from collections.abc import Callable
from contextlib import suppress
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
        gate.catch_up()  # where the change has an answer: except Exception: gate.hurry()
    """

    __slots__ = (
        "_failed",
        "_is_catching_up",
        "acquire",
        "asked",
        "hurry",
        "is_busy",
        "lock",
        "release",
    )

    def __init__(self) -> None:
        # Not threading.RLock, which gevent makes a lock of greenlets: nobody blocks in a change.
        self.lock: RLock = RLock()
        self.acquire: Callable[[], bool] = self.lock.acquire
        self.release: Callable[[], None] = self.lock.release
        self.is_busy: bool = False
        self.asked: deque[Callable[[], object]] = deque()
        self._is_catching_up = False
        self._failed: object = None
        self.hurry: Callable[[], object] = partial(_thread.start_new_thread, self.catch_up, ())
        """Let a thread with a stack of its own do what was asked. Who has raised puts what is
        left to do into ``asked``, and calls this: neither is Python code, for which there may be
        no stack left."""

    def is_inside(self) -> bool:
        """Whether this thread has the lock: it has come back in, and can wait for nobody."""
        return self.lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def make(
        self, change: Callable[[], T], otherwise: T, again: Callable[[], object] | None = None
    ) -> T:
        """Make a change, and say what it says. In the middle of another one ``otherwise``, and it
        is asked for, if it can be made ``again``."""
        with self.lock:
            if self.is_busy:
                if again is not None:
                    self.asked.append(again)
                return otherwise
            self.is_busy = True
            try:
                answer = change()
            finally:
                self.is_busy = False
        if self.asked:
            try:
                self.catch_up()
            except Exception:  # this change is made all the same
                self.hurry()
        return answer

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
            try:
                self.catch_up()
            except Exception:  # there is an answer all the same
                self.hurry()
        return answer

    def catch_up(self) -> None:
        """Do what was asked meanwhile. What that asks in turn is done here too, not deeper. Not
        in the middle of a change: it would only be asked again."""
        while self.asked and not self._is_catching_up and not (self.is_busy and self.is_inside()):
            self._is_catching_up = True
            work: Callable[[], object] | None = None
            failure: Exception | None = None
            try:
                while self.asked:
                    work = self.asked.popleft()
                    work()
                    work = self._failed = None
            except Exception as error:
                failure = error
            finally:
                # Then once more: who has asked while this was set has left it to us.
                self._is_catching_up = False
                if failure is None and work is not None:  # a signal handler has raised
                    self.asked.appendleft(work)
            if failure is None or work is None:  # (or another thread was faster)
                continue
            if work is self._failed:
                text = "what was to be done behind a change has failed"
                log("error", "internal_error", text, error=failure)
                continue
            # Once more: here there may be no stack or no memory left.
            self._failed = work
            self.asked.appendleft(work)
            with suppress(RuntimeError):  # at the interpreter's end there are no more threads
                self.hurry()
                return


class Gated(Protocol):
    gate: Gate


def change(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that is one change of what has the gate; it says ``None`` when it is put off.
    (For those that are not on the way of every callback.)"""

    @wraps(method)
    def changing(self: Gated, *arguments: Any) -> Any:
        again = partial(changing, self, *arguments)
        return self.gate.make(partial(method, self, *arguments), None, again)

    return changing
