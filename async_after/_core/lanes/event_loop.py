"""Where coroutine functions run: as tasks of an event loop.

(Plain functions run in worker threads: ``threads.py``.)
Promise 4, never_cancelled_by_the_client: no server and no framework knows of these tasks.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any

from ..exchange import Callback, CallbackState
from .base import ChainLike
from .coroutine import CANCELLED_TASK, Steps
from .losing import CLOSED_LOOP
from .surroundings import OwnSurroundings, Surroundings, ThreadSensitivity
from .thread_sensitive import SessionExecutor

SlowStep = Callable[[Callback[Any], float], None]


class InlineLane:
    """Awaits coroutine functions for somebody who waits for their end, a test
    client say. Connections and caches are the caller's: nothing is closed."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sensitivity: ThreadSensitivity | None = None
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.surroundings: Surroundings = Surroundings(sensitivity)
        # Referenced until their end: asyncio itself does not (create_task).
        self._steps: set[Steps] = set()

    def start(self, chain: ChainLike, callback: Callback[Any]) -> Steps | None:
        """Start it, and those behind it. In the loop's thread only."""
        if callback._state is not CallbackState.RUNNING:  # dropped on its way
            chain.advance()
            return None
        steps = Steps(self, chain, callback)
        self._steps.add(steps)
        return steps

    # What ``Steps`` asks.

    def forget(self, steps: Any) -> None:
        self._steps.discard(steps)

    def slow_step(self, callback: Callback[Any], seconds: float) -> None:
        pass

    def is_ending(self) -> bool:
        return False


class LoopLane(InlineLane):
    """Runs coroutine functions on an event loop that goes on, each with caches
    of its own, and with a worker for its thread-sensitive calls.

    ``slow_step``: is told of each long step, as the loop could do nothing else.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sessions: SessionExecutor,
        slow_step: SlowStep | None = None,
    ) -> None:
        super().__init__(loop)
        self.surroundings: Surroundings = OwnSurroundings(sessions)
        self._coming: dict[Callback[Any], ChainLike] = {}
        self._slow_step = slow_step
        self._is_abandoned = False
        self._is_at_end = False

    def start_from_anywhere(self, chain: ChainLike, callback: Callback[Any]) -> bool:
        """Start it from any thread; ``False`` if the loop is closed, and it is settled."""
        here = asyncio._get_running_loop()  # as running_loop(), without a call of ours
        if here is self.loop and self._is_at_end:
            chain.exchange.drop(callback, CANCELLED_TASK)
            return False
        if here is self.loop:
            self.start(chain, callback)
            return True
        self._coming[callback] = chain
        try:
            if not self._is_abandoned:
                self.loop.call_soon_threadsafe(
                    self._start_coming, chain, callback, context=Context()
                )
                return True
        except RuntimeError:
            pass
        if self._coming.pop(callback, None) is None:
            return True  # abandon() was faster, and has accounted for it
        chain.exchange.drop(callback, CLOSED_LOOP)
        return False

    def _start_coming(self, chain: ChainLike, callback: Callback[Any]) -> None:
        if self._coming.pop(callback, None) is None:
            return
        try:
            self.start(chain, callback)
        except Exception as error:
            chain.exchange.drop(callback, f"it cannot be started: {error}")
            chain.advance()

    def mend(self) -> None:
        """Where the loop has called us, and there was no stack or no memory for our first
        function, something waits for ever: go on with it."""
        with suppress(RuntimeError):  # the loop is closed
            for steps in [*self._steps]:
                if (task := getattr(steps, "task", None)) is not None and task.done():
                    self.loop.call_soon_threadsafe(steps.mourn, task, context=Context())
            for callback, chain in [*self._coming.items()]:
                start = self._start_coming
                self.loop.call_soon_threadsafe(start, chain, callback, context=Context())

    def abandon(self) -> None:
        """The loop is at its end: what it had not ended is lost, and accounted for."""
        self._is_abandoned = True
        for steps in [*self._steps]:
            steps.close()
        while self._coming:
            try:
                callback, chain = self._coming.popitem()
            except KeyError:  # another thread was faster
                break
            chain.exchange.drop(callback, CLOSED_LOOP)
            chain.advance()

    # What ``Steps`` asks.

    def slow_step(self, callback: Callback[Any], seconds: float) -> None:
        if self._slow_step is not None:
            self._slow_step(callback, seconds)

    def is_ending(self) -> bool:
        # As at the end of asyncio.run, which runs no new task. Should that be
        # wrong, the loop has another turn, in which it goes on.
        if not self._is_at_end and all(t.cancelling() for t in asyncio.all_tasks(self.loop)):
            self._is_at_end = True
            self.loop.call_soon(self._go_on)
        return self._is_at_end

    def _go_on(self) -> None:
        self._is_at_end = False
