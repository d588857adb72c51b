"""How the steps of callbacks end in another way than with their callback.

Promise 2, once_or_accounted: what the loop has lost, or what was broken by something of ours, is
settled all the same.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any

from ..exchange import Callback, CallbackState
from ..runtime import log
from .base import ChainLike, LaneLike

CLOSED_LOOP = "its event loop was closed"


class Losable(Coroutine[Any, Any, None]):
    """What ``Steps`` do when they are lost."""

    __slots__ = ()

    task: asyncio.Task[None]
    _callback: Callback[Any]
    _chain: ChainLike
    _context: Context
    _coroutine: Any
    _lane: LaneLike

    def _end(self) -> None:
        """Let those behind go on."""
        raise NotImplementedError

    def close(self) -> None:
        """The loop is closed and the task dead: what it had is lost, and accounted for."""
        callback = self._callback
        if self._coroutine is not None:
            try:
                self._context.run(self._coroutine.close)
            except BaseException:  # "coroutine ignored GeneratorExit", say
                message = "callback %s did not end with its loop"
                log("exception", "cleanup_failed", message, callback.describe(), of=callback)
        if callback._around is not None:
            self._context.run(callback._around.leave, GeneratorExit())
        self._lane.surroundings.lose(callback)
        self._chain.exchange.drop(callback, CLOSED_LOOP)
        self._end()

    def _break(self, error: BaseException) -> None:
        """Something of ours, or around the callback, has raised, a RecursionError say: whatever
        it is, the callback has an end, and those behind it go on."""
        callback, chain = getattr(self, "_callback", None), self._chain
        log("exception", "internal_error", "what runs callbacks failed", of=callback)
        if callback is not None:
            # What was taken in its place has not begun here.
            following = None if callback._state is CallbackState.RUNNING else chain.following
            for each in (callback, following):
                if each is not None:
                    chain.exchange.settle(each, CallbackState.FAILED, None, error)
            self._end()
        raise StopIteration

    def mourn(self, task: "asyncio.Task[None]") -> None:
        """The task has ended, and this has not: there was no stack for its first function."""
        if getattr(self, "task", None) is task:
            error = None if task.cancelled() else task.exception()
            with suppress(StopIteration):
                self._break(error or RuntimeError("its task has ended"))
