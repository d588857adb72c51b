"""Where coroutine functions run: as tasks of an event loop.

(The other lane, worker threads, is ``threads.py``.) Promise 4,
never_cancelled_by_the_client: no server and no framework knows of these tasks.
"""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

from . import calling, contexts, hygiene
from .callback import Callback, CallbackState
from .sessions import SessionExecutor
from .steps import Steps, Unit
from .threads import WorkerPool


class InlineLane:
    """Awaits coroutine functions for somebody who waits for their end, a test
    client say. Connections and caches are the caller's: nothing is closed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sensitivity: contexts.ThreadSensitivity | None = None,
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self._sensitivity = sensitivity or contexts.ThreadSensitivity()
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

    def enter(self, callback: Callback[Any]) -> None:
        calling.enter(callback)
        self._sensitivity.apply()

    def leave(self, callback: Callback[Any], context: Context) -> Coroutine[Any, Any, None] | None:
        return None

    def lose(self, callback: Callback[Any]) -> None:
        pass


class OwnLoopLane(InlineLane):
    """The same in a loop of the runner's own, with caches of its own."""

    def enter(self, callback: Callback[Any]) -> None:
        super().enter(callback)
        hygiene.forget_caches()

    def leave(self, callback: Callback[Any], context: Context) -> Coroutine[Any, Any, None] | None:
        if hygiene.has_caches():
            context.run(hygiene.close_caches)
        return None


class LoopLane(OwnLoopLane):
    """Runs coroutine functions on the event loop of a server, each with a
    worker of its own for its thread-sensitive calls."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: WorkerPool) -> None:
        self._sessions = SessionExecutor(pool)
        thread_sensitive = contexts.thread_sensitive_context(self._sessions)
        super().__init__(loop, contexts.ThreadSensitivity(context=thread_sensitive))
        self._coming: dict[Callback[Any], Unit] = {}

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

    def leave(self, callback: Callback[Any], context: Context) -> Coroutine[Any, Any, None] | None:
        super().leave(callback, context)
        return self._sessions.end(callback)

    def lose(self, callback: Callback[Any]) -> None:
        self._sessions.lose(callback)
