"""The task that runs the coroutine functions of one chain, one after another.

Promise 2, once_or_accounted: however the task ends, its callback is settled,
and those behind it go on.
"""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import suppress
from contextvars import Context
from types import CoroutineType
from typing import Any

from ..exchange import Callback, CallbackState, Lane
from ..runtime import LoopTimer, monotonic, process
from .base import ChainLike, LaneLike
from .invoke import SKIPPED, call, end_child, ending_of
from .losing import Losable
from .returned import coroutine_of, refusal

# A chain of many callbacks that never suspend lets the loop go on in between.
_TURN = 0.001

RUNNING, SUCCEEDED = CallbackState.RUNNING, CallbackState.SUCCEEDED  # as ``exchange.state`` does
_NO_LOOP = "a child process cannot await: the event loop is that of its parent"
CANCELLED_TASK = "its task was cancelled from outside, as at the end of an event loop"


class Steps(Losable):
    """A coroutine in which each step runs in the context of its callback.

    A plain ``async def`` around the callbacks would not do: a task that is
    cancelled before its first step never enters its coroutine, and the
    callback would be lost.

    Callbacks that never suspend share a task, which costs a third of one each. One that did keeps
    it for itself: libraries keep things by task, and somebody may hold it to cancel it.
    """

    __slots__ = (
        "_callback",
        "_cancelled",
        "_chain",
        "_context",
        "_coroutine",
        "_ending",
        "_forks",
        "_has_cancelled_itself",
        "_has_suspended",
        "_is_asked",
        "_lane",
        "_lanes",
        "_timer",
        "_turn",
        "task",
    )

    def __init__(self, lane: LaneLike, chain: ChainLike, callback: Callback[Any]) -> None:
        self._lane = lane
        self._chain = chain
        self._turn: Any = chain if chain.goes_on else None
        # Of a plain function it is the coroutine that it has returned.
        self._lanes: tuple[Lane] = ("background" if callback.home == "background" else "loop",)
        self._timer: LoopTimer | None = None
        self._ending: tuple[Any, BaseException | None] | None = None
        self._has_suspended = False
        self._has_cancelled_itself = False
        self._cancelled = 0
        self._forks = process.forks
        self._prepare(callback)
        # Last: nothing may raise when it is there. Not loop.create_task: an eager task factory
        # would run the callback here, inside the request.
        self.task: asyncio.Task[None] = asyncio.Task(
            self, loop=lane.loop, name=callback.name, context=Context()
        )

    def _prepare(self, callback: Callback[Any]) -> None:
        if self._timer is not None:
            self._stop_timer()
        self._callback = callback
        context = callback._context  # None: another thread has dropped it on its way
        self._context: Any = Context() if context is None else context
        self._coroutine: Any = None
        self._is_asked = False
        timeout = callback._timeout
        if timeout is not None or callback._owner.host.ledger.timeout is not None:
            timeout = self._chain.timeout_of(callback)
        if timeout is not None:
            stop = callback._ask_to_stop
            self._timer = LoopTimer(self._lane.loop, timeout, stop, CallbackState.TIMED_OUT)
        callback._stop = self
        if callback._stopping is not None:
            self.cancel(callback)

    def cancel(self, callback: Callback[Any]) -> None:
        """Cancel this callback, if it still runs. Any thread may call."""
        with suppress(RuntimeError):  # the loop is closed, and its tasks are dead
            # Twice: nobody else would come, if no stack is left for the first.
            self._lane.loop.call_soon_threadsafe(self._cancel, callback)
            self._lane.loop.call_soon_threadsafe(self._cancel, callback)

    def _cancel(self, callback: Callback[Any]) -> None:
        # Once: a second time would hit its clean-up. Also if it was given up since.
        if not self._is_asked and self._callback is callback and self._ending is None:
            self._is_asked = True
            self.task.cancel()

    # The coroutine of the task.

    def send(self, value: Any) -> Any:
        coroutine = self._coroutine
        return self._guard(self._first if coroutine is None else coroutine.send, value)

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> Any:
        coroutine = self._coroutine
        return self._guard(_raise if coroutine is None else coroutine.throw, error)

    def _guard(self, step: Any, argument: Any) -> Any:
        try:
            return self._run(step, argument)
        except (StopIteration, KeyboardInterrupt):
            raise
        except BaseException as broken:
            return self._break(broken)

    @property
    def __name__(self) -> str:
        """For the ``repr`` of the task."""
        return self._callback.name if hasattr(self, "_callback") else "callbacks"

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("the steps of callbacks belong to their task")

    def _run(self, step: Any, argument: Any) -> Any:
        """One step: of this callback, and of those behind it that begin before it suspends."""
        began = turn_began = monotonic()
        cancelled = self._see_outsiders()
        while True:
            try:
                waiting_for = self._context.run(step, argument)
            except StopIteration as stop:
                result = stop.value
                error: Any = None if result is None else refusal(self._callback, result)
            except BaseException as raised:
                result, error = None, raised
            else:
                return self._suspend(waiting_for, cancelled, began)
            if process.forks != self._forks:
                end_child(self._callback, error)
            now = monotonic()
            callback: Any = self._callback
            if now - began > _TURN:
                self._lane.slow_step(callback, now - began)
            began = now
            if self._ending is not None:
                (result, error), self._ending = self._ending, None
            else:
                if callback._around is not None:
                    self._context.run(callback._around.leave, error)
                leaving = self._lane.surroundings.leave(callback, self._context)
                if leaving is not None:
                    self._ending = result, error
                    self._coroutine = leaving
                    step, argument = leaving.send, None
                    continue
            lanes: Sequence[Lane] = self._lanes
            if self._has_suspended or self.task.cancelling():
                self._see_cancelling(cancelled)
                lanes = ()
            if error is None and result is not SKIPPED and callback._stopping is None:
                settle = self._chain.exchange.settle
                settle(callback, SUCCEEDED, result, None, None, None, self._turn, lanes, now)
                following = self._chain.following
            else:
                following = self._finish(result, error, lanes)
            result = error = callback = None
            if following is None:
                self._end()
                raise StopIteration
            self._prepare(following)
            if now - turn_began > _TURN:
                return None  # as asyncio.sleep(0): send() comes again
            step, argument = self._first, None

    def _suspend(self, waiting_for: Any, cancelled: int, began: float) -> Any:
        """It waits for something."""
        if process.forks != self._forks:
            end_child(self._callback, RuntimeError(_NO_LOOP))
        self._has_suspended = True
        self._see_cancelling(cancelled)
        if (seconds := monotonic() - began) > _TURN:
            self._lane.slow_step(self._callback, seconds)
        return waiting_for

    def _see_outsiders(self) -> int:
        """How often this task has been cancelled until now, since the last step by others."""
        cancelled = self.task.cancelling()
        if cancelled > self._cancelled:
            self._has_cancelled_itself = False
        return cancelled

    def _see_cancelling(self, before: int) -> None:
        """Was this task cancelled during this step? Then by its own code."""
        self._cancelled = self.task.cancelling()
        if self._cancelled > before:
            self._has_cancelled_itself = True

    def _first(self, _: None) -> Any:
        """The first step of a callback, in its context."""
        callback = self._callback
        if callback._state is not RUNNING:
            raise StopIteration
        self._lane.surroundings.enter(callback)
        coroutine = callback._returned
        if coroutine is None:
            try:
                coroutine = call(self._chain.exchange, callback)
            except StopIteration as error:
                # Here it would mean that the callback has ended well (PEP 479).
                raise RuntimeError(f"{callback.name} raised StopIteration") from error
        if type(coroutine) is not CoroutineType:
            coroutine = coroutine_of(coroutine)
        self._coroutine = coroutine
        # Should it fail, its traceback keeps this frame.
        del callback
        return coroutine.send(None)

    def _finish(
        self, result: Any, error: BaseException | None, lanes: Sequence[Lane]
    ) -> Callback[Any] | None:
        """Settle it; the next one, if it begins in this very task."""
        callback, chain = self._callback, self._chain
        if (
            callback._stopping is None
            and issubclass(type(error), asyncio.CancelledError)
            and self.task.cancelling()
            and not self._has_cancelled_itself
        ):
            # By somebody else, the loop at its end perhaps.
            chain.exchange.drop(callback, CANCELLED_TASK)
            if self._lane.is_ending():
                chain.drop(CANCELLED_TASK)
            return None
        state: CallbackState = CallbackState.SKIPPED
        if result is SKIPPED:
            result = None
        else:
            state, result, error = ending_of(callback, result, error)
        is_interrupt = issubclass(type(error), KeyboardInterrupt)
        lanes = () if is_interrupt else lanes
        chain.exchange.settle(callback, state, result, error, None, None, self._turn, lanes)
        if is_interrupt and error is not None:  # for the program
            self._end()
            raise error
        return chain.following

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        lane, chain, callback = self._lane, self._chain, self._callback
        try:
            self._stop_timer()
            lane.forget(self)
        finally:
            # The task refers to this, and this to the task; the traceback of a
            # failure refers to our frames.
            self._is_asked = True
            self._coroutine = self._context = self._turn = None
            del self.task, self._callback
            try:
                if not chain.is_over:
                    chain.advance()
            except Exception:
                gate = callback._owner.host.ledger.gate
                gate.asked.append(chain.advance)
                gate.hurry()


def _raise(error: BaseException) -> Any:
    raise error
