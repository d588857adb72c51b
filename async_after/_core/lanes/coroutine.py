"""The task that runs the coroutine functions of one chain, one after another.

Promise 2, once_or_accounted: however the task ends, its callback is settled,
and those behind it go on.
"""

import asyncio
import time
from collections.abc import Coroutine, Generator
from contextvars import Context
from types import CoroutineType
from typing import Any

from ..exchange import SUCCEEDED, Callback, CallbackState, Lane
from ..runtime import log
from .base import ChainLike, LaneLike
from .invoke import SKIPPED, call, refusal, settle

# A chain of many callbacks that never suspend lets the loop go on in between.
_TURN = 0.001

CLOSED_LOOP = "its event loop was closed"
CANCELLED_TASK = "its task was cancelled from outside, as at the end of an event loop"


class Steps(Coroutine[Any, Any, None]):
    """A coroutine in which each step runs in the context of its callback.

    A plain ``async def`` around the callbacks would not do: a task that is
    cancelled before its first step never enters its coroutine, and the
    callback would be lost.

    Callbacks that never suspend share a task, which costs a third of one each.
    One that did keeps it for itself: libraries keep things by task (scoped
    sessions, cancel scopes), and somebody may hold it to cancel it.
    """

    __slots__ = (
        "_callback",
        "_cancelled",
        "_chain",
        "_context",
        "_coroutine",
        "_ending",
        "_has_cancelled_itself",
        "_has_suspended",
        "_is_asked",
        "_lane",
        "_lanes",
        "_timer",
        "task",
    )

    def __init__(self, lane: LaneLike, chain: ChainLike, callback: Callback[Any]) -> None:
        self._lane = lane
        self._chain = chain
        # Of a plain function it is the coroutine that it has returned.
        self._lanes: tuple[Lane] = ("background" if callback.home == "background" else "loop",)
        self._timer: asyncio.TimerHandle | None = None
        self._has_suspended = False
        self._has_cancelled_itself = False
        self._cancelled = 0
        # Not loop.create_task: an eager task factory would run the callback
        # here, inside the request.
        self.task: asyncio.Task[None] = asyncio.Task(
            self, loop=lane.loop, name=callback.name, context=Context()
        )
        self._prepare(callback)

    def _prepare(self, callback: Callback[Any]) -> None:
        self._callback = callback
        context = callback._context  # None: another thread has dropped it on its way
        self._context: Any = Context() if context is None else context
        self._coroutine: Any = None
        self._ending: tuple[Any, BaseException | None] | None = None
        self._is_asked = False
        timeout = self._chain.timeout_of(callback)
        if timeout is not None:
            # The loop keeps a cancelled timer, with its context, until it would have been due.
            self._timer = self._lane.loop.call_later(
                timeout, callback._ask_to_stop, CallbackState.TIMED_OUT, context=Context()
            )
        callback._stop = self
        if callback._stopping is not None:
            self.cancel(callback)

    def cancel(self, callback: Callback[Any]) -> None:
        """Cancel this callback, if it still runs. Any thread may call."""
        try:
            self._lane.loop.call_soon_threadsafe(self._cancel, callback)
        except RuntimeError:  # the loop is closed, and its tasks are dead
            pass

    def _cancel(self, callback: Callback[Any]) -> None:
        # Once, as a second time would hit its clean-up. It may have been given
        # up since: it is cancelled all the same.
        if not self._is_asked and self._callback is callback and self._ending is None:
            self._is_asked = True
            self.task.cancel()

    # The coroutine of the task.

    def send(self, value: Any) -> Any:
        if self._coroutine is None:
            return self._run(self._first, None)
        return self._run(self._coroutine.send, value)

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> Any:
        if self._coroutine is None:
            return self._run(_raise, error)
        return self._run(self._coroutine.throw, error)

    def close(self) -> None:
        """The loop is closed and the task dead: what it had is lost, and accounted for."""
        callback = self._callback
        if self._coroutine is not None:
            try:
                self._context.run(self._coroutine.close)
            except BaseException:  # "coroutine ignored GeneratorExit", say
                message = "callback %s did not end with its loop"
                log("exception", "cleanup_failed", message, callback.describe(), of=callback)
        self._lane.lose(callback)
        self._chain.exchange.drop(callback, CLOSED_LOOP)
        self._end()

    @property
    def __name__(self) -> str:
        """For the ``repr`` of the task."""
        return self._callback.name if hasattr(self, "_callback") else "callbacks"

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("the steps of callbacks belong to their task")

    def _run(self, step: Any, argument: Any) -> Any:
        """One step: of this callback, and of those behind it that begin before it suspends."""
        began = turn_began = time.monotonic()
        cancelled = self.task.cancelling()
        if cancelled > self._cancelled:
            self._has_cancelled_itself = False
        result: Any
        error: BaseException | None
        while True:
            try:
                waiting_for = self._context.run(step, argument)
            except StopIteration as stop:
                result = stop.value
                error = None if result is None else refusal(self._callback, result)
            except BaseException as raised:
                result, error = None, raised
            else:
                self._has_suspended = True
                self._see_cancelling(cancelled)
                self._see_time(time.monotonic() - began)
                return waiting_for
            now = time.monotonic()
            if now - began > _TURN:
                self._see_time(now - began)
            began = now
            if self._ending is None:
                leaving = self._lane.leave(self._callback, self._context)
                if leaving is None and error is None and self._follow(result):
                    if now - turn_began > _TURN:
                        return None
                    step, argument = self._first, None
                    continue
                self._ending = result, error
                if leaving is not None:
                    self._coroutine = leaving
                    step, argument = leaving.send, None
                    continue
            self._see_cancelling(cancelled)
            self._settle()
            interrupt = self._ending[1]
            self._ending = error = None
            if isinstance(interrupt, KeyboardInterrupt):
                self._end()
                raise interrupt
            interrupt = None
            self._take_next()
            if now - turn_began > _TURN:
                return None  # as asyncio.sleep(0): send() comes again
            step, argument = self._first, None

    def _follow(self, result: Any) -> bool:
        """The short way from a callback that has returned in its first step to the next one."""
        callback = self._callback
        if (
            self._has_suspended
            or self._timer is not None
            or callback._stopping is not None
            or result is SKIPPED
            or self.task.cancelling()
        ):
            return False
        following = self._chain.follow(callback, result, self._lanes)
        if following is None:
            return False
        self._prepare(following)
        return True

    def _take_next(self) -> None:
        """Prepare the next one for this task, or end it."""
        keeps_task = self._has_suspended or self.task.cancelling()
        following = None if keeps_task else self._chain.take(self._lanes)
        if following is None:
            self._end()
            raise StopIteration
        self._prepare(following)

    def _see_time(self, seconds: float) -> None:
        """A step has taken so long, in which the loop could do nothing else."""
        if seconds > _TURN:
            self._lane.slow_step(self._callback, seconds)

    def _see_cancelling(self, before: int) -> None:
        """Was this task cancelled during this step? Then by its own code."""
        self._cancelled = self.task.cancelling()
        if self._cancelled > before:
            self._has_cancelled_itself = True

    def _first(self, _: None) -> Any:
        """The first step of a callback, in its context."""
        callback = self._callback
        if callback.done():
            raise StopIteration
        self._lane.enter(callback)
        coroutine = callback._returned
        if coroutine is None:
            try:
                coroutine = call(self._chain.exchange, callback)
            except StopIteration as error:
                # Here it would mean that the callback has ended well (PEP 479).
                raise RuntimeError(f"{callback.name} raised StopIteration") from error
        if type(coroutine) is not CoroutineType and not hasattr(coroutine, "send"):
            if not hasattr(coroutine, "__await__"):
                raise StopIteration(coroutine)
            coroutine = _await(coroutine)
        self._coroutine = coroutine
        # Should it fail, its traceback keeps this frame.
        del callback
        return coroutine.send(None)

    def _settle(self) -> None:
        assert self._ending is not None
        (result, error), callback, chain = self._ending, self._callback, self._chain
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if error is None and result is not SKIPPED and callback._stopping is None:
            chain.exchange.settle(callback, SUCCEEDED, result)
        elif result is SKIPPED:
            chain.exchange.settle(callback, CallbackState.SKIPPED)
        elif (
            callback._stopping is None
            and isinstance(error, asyncio.CancelledError)
            and self.task.cancelling()
            and not self._has_cancelled_itself
        ):
            # By somebody else, the loop at its end perhaps.
            chain.exchange.drop(callback, CANCELLED_TASK)
            if self._lane.is_ending():
                chain.drop(CANCELLED_TASK)
        else:
            settle(chain.exchange, callback, result, error)

    def _end(self) -> None:
        self._lane.forget(self)
        # The task refers to this, and this to the task; the traceback of a
        # failure refers to our frames.
        self._is_asked = True
        self._coroutine = self._context = None
        chain = self._chain
        del self.task, self._callback
        chain.advance()


def _raise(error: BaseException) -> Any:
    raise error


async def _await(awaitable: Any) -> Any:
    return await awaitable
