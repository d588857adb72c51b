"""What is current, and waiting for a callback inside of another one, or of a request.

Promise 9, bounded: a callback that only waits lends its slot.
"""

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any

from ..runtime import Latch, process
from .callback import Callback, Owner

current_callback: ContextVar[Callback[Any] | None] = ContextVar(
    "async_after.callback", default=None
)
current_owner: ContextVar[Owner | None] = ContextVar("async_after.exchange", default=None)
"""The current exchange. Those who know exchanges call it ``lookup.current_exchange``."""


async def wait_for(callback: Callback[Any], end: Latch, timeout: float | None) -> None:
    """Wait up to ``timeout`` seconds for its ``end``; raises what ``Callback.wait`` does."""
    _refuse_deadlock(callback)
    with lending():
        if not await end.wait(timeout):
            raise TimeoutError(
                f"callback {callback.name} was still {callback.state.value} after {timeout} s"
            )


def running_callback() -> Callback[Any] | None:
    """The callback that this is called in, if it has not ended."""
    callback = current_callback.get()
    return callback if callback is not None and not callback.done() else None


def lending() -> AbstractContextManager[None]:
    """While inside, the callback that this is called in, if any, only waits."""
    waiting = running_callback()
    return nullcontext() if waiting is None else waiting._owner.host.lending(waiting)


def _refuse_deadlock(callback: Callback[Any]) -> None:
    """``RuntimeError`` where waiting for ``callback`` here can never end."""
    if process.is_inside():
        raise RuntimeError(
            f"waiting for callback {callback.name} here would never end: this is called in the"
            " middle of a registration or an end, by a destructor or a signal handler, and all"
            " others wait for that. Wait in a task or a thread of its own."
        )
    here = current_owner.get()
    while here is not None:
        if here is callback._owner and not here.is_ended:
            raise RuntimeError(
                f"waiting for callback {callback.name} before its response is sent would never"
                " end: it runs after the response. Wait in another callback with"
                " concurrent=True, or await the function itself."
            )
        here = here.parent
    waiting = running_callback()
    if waiting is None:
        return
    both_in_line = not waiting.options.concurrent and not callback.options.concurrent
    if waiting is callback or (waiting._owner is callback._owner and both_in_line):
        raise RuntimeError(
            f"callback {waiting.name} waiting for callback {callback.name} of the same exchange"
            " would never end: sequential callbacks run one after the other. Register one of"
            " them with concurrent=True."
        )
