"""Where coroutine functions run: as tasks of an event loop.

(The other lane, worker threads, is ``threads.py``.) Promise 4,
never_cancelled_by_the_client: no server and no framework knows of these tasks.
"""

import abc
import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

from . import calling, contexts, hygiene
from .callback import Callback, CallbackState
from .sessions import SessionExecutor
from .steps import Steps, Unit
from .threads import WorkerPool


class Lane(abc.ABC):
    """The part of all lanes: it keeps the tasks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        # Referenced until their end: asyncio itself does not (create_task).
        self._steps: set[Steps] = set()

    def start(self, unit: Unit, callback: Callback[Any]) -> None:
        """Start it, and those behind it. In the loop's thread only."""
        if callback.done():  # dropped on its way
            unit.hand_on(unit.take())
        else:
            self._steps.add(Steps(self, unit, callback))

    # What ``Steps`` asks.

    def forget(self, steps: Steps) -> None:
        self._steps.discard(steps)

    @abc.abstractmethod
    def enter(self, callback: Callback[Any]) -> None:
        """Prepare the callback's own context, from inside."""

    @abc.abstractmethod
    def leave(self, callback: Callback[Any], context: Context) -> Coroutine[Any, Any, None] | None:
        """Clean up after it; what is left to be awaited, if anything."""

    def lose(self, callback: Callback[Any]) -> None:  # noqa: B027 -- others hold nothing
        """The same for a loop that is closed."""


class LoopLane(Lane):
    """Runs coroutine functions on the event loop of a server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: WorkerPool) -> None:
        super().__init__(loop)
        self._coming: dict[Callback[Any], Unit] = {}
        self._sessions = SessionExecutor(pool)
        self._thread_sensitive = contexts.thread_sensitive_context(self._sessions)

    def start_soon(self, unit: Unit, callback: Callback[Any]) -> None:
        """Start it from any thread. ``RuntimeError`` if the loop is closed."""
        self._coming[callback] = unit
        try:
            self.loop.call_soon_threadsafe(self._start_coming, unit, callback)
        except RuntimeError:
            del self._coming[callback]
            raise

    def _start_coming(self, unit: Unit, callback: Callback[Any]) -> None:
        del self._coming[callback]
        self.start(unit, callback)

    def abandon(self) -> None:
        """The loop is closed: what it had not ended is lost, and accounted for."""
        for steps in [*self._steps]:
            steps.close()
        for callback, unit in [*self._coming.items()]:
            unit.exchange.settle(callback, CallbackState.DROPPED)
            unit.hand_on(unit.take())

    def enter(self, callback: Callback[Any]) -> None:
        calling.enter(callback)
        contexts.forget_current_thread_executor()
        contexts.set_thread_sensitive_context(self._thread_sensitive)
        hygiene.forget_caches()

    def leave(self, callback: Callback[Any], context: Context) -> Coroutine[Any, Any, None] | None:
        if hygiene.has_caches():
            context.run(hygiene.close_caches)
        return self._sessions.end(callback)

    def lose(self, callback: Callback[Any]) -> None:
        self._sessions.lose(callback)


class InlineLane(Lane):
    """Awaits coroutine functions for somebody who waits for their end, a test
    client say. Connections and caches are the caller's: nothing is closed.

    ``sensitivity``: where their thread-sensitive calls go; by default where
    those of the loop go.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sensitivity: contexts.ThreadSensitivity | None = None,
    ) -> None:
        super().__init__(loop)
        self._sensitivity = sensitivity or contexts.ThreadSensitivity()

    def enter(self, callback: Callback[Any]) -> None:
        calling.enter(callback)
        self._sensitivity.apply()

    def leave(self, callback: Callback[Any], context: Context) -> Coroutine[Any, Any, None] | None:
        return None


class OwnLoopLane(InlineLane):
    """The same in a loop of the runner's own, with caches of its own."""

    def enter(self, callback: Callback[Any]) -> None:
        super().enter(callback)
        hygiene.forget_caches()

    def leave(self, callback: Callback[Any], context: Context) -> Coroutine[Any, Any, None] | None:
        if hygiene.has_caches():
            context.run(hygiene.close_caches)
        return None
