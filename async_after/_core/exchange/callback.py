"""One registered callable, and what becomes of it.

Promise 15, discreet: neither arguments nor results appear in a ``repr``, and
callable, arguments and context are dropped as soon as the callback has ended.
"""

import asyncio
import functools
import inspect
from _thread import get_ident
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, ContextVar, copy_context
from types import CoroutineType
from typing import Any, Generic, Protocol, TypeVar

from ..runtime import Latch
from .options import Lane, Options
from .outcome import Outcome
from .state import PENDING, RUNNING, CallbackNotRun, CallbackState

R = TypeVar("R")


class Owner(Protocol):
    """What a callback asks of the exchange it belongs to."""

    @property
    def outcome(self) -> Outcome | None: ...
    @property
    def is_ended(self) -> bool: ...
    @property
    def parent(self) -> "Owner | None": ...
    def label(self) -> str: ...
    def values(self) -> dict[str, object]: ...
    def settle(
        self,
        callback: "Callback[Any]",
        state: CallbackState,
        *,
        reason: str | None = None,
        expected: CallbackState | None = None,
    ) -> bool: ...
    def latch(self, callback: "Callback[Any]") -> Latch: ...
    @property
    def host(self) -> Any: ...


class Stopper(Protocol):
    """Who can cancel a running callback."""

    def cancel(self, callback: "Callback[Any]") -> None:
        """Cancel it, if it still runs. Any thread may call."""


Task = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""What a callback calls: the callable, and its arguments."""


class Callback(Generic[R]):
    """The handle of one registration.

    It is not awaitable: registering does not wait. ``await callback.wait()``
    does, in another exchange or in a concurrent callback.
    """

    # Written by the exchange alone, under its lock; read by anyone.
    __slots__ = (
        "__weakref__",
        "_context",
        "_exception",
        "_is_dormant",
        "_is_waiting",
        "_latch",
        "_number",
        "_outcome",
        "_owner",
        "_reason",
        "_result",
        "_returned",
        "_state",
        "_stop",
        "_stopping",
        "_task",
        "_thread",
        "_timeout",
        "home",
        "is_async",
        "name",
        "options",
    )

    def __init__(
        self, owner: Owner, name: str, options: Options, is_async: bool, task: Task
    ) -> None:
        self._owner = owner
        self._state = PENDING
        # What it needs in order to run; dropped when it has ended.
        self._task: Task | None = task
        self._context: Context | None = copy_context()
        # The thread of the registration: asgiref's Locals are tagged with it.
        self._thread: int = get_ident()
        self._latch: Latch | None = None
        self._stop: Stopper | None = None
        self._stopping: CallbackState | None = None
        # The coroutine that a plain function returned, for a loop to await.
        self._returned: Any = None
        self._timeout: float | None = options.timeout
        self.name: str = name
        self.options: Options = options
        self.is_async: bool = is_async
        self.home: Lane = (options.lane or "loop") if is_async else "threads"
        """The lane it runs in, where there are lanes."""
        self._result: Any = None
        self._exception: BaseException | None = None
        # It is pending, its exchange has ended, and it has no slot yet.
        self._is_waiting = False
        # Which one of its exchange.
        self._number = 0
        # Why it was dropped.
        self._reason: str | None = None
        # It waits for something that may never come, and nobody waits for it.
        self._is_dormant = False
        # Its own, if it is another than that of its exchange.
        self._outcome: Outcome | None = None

    @property
    def state(self) -> CallbackState:
        return self._state

    @property
    def outcome(self) -> Outcome | None:
        """What became of the response; ``None`` until the exchange has ended."""
        return self._outcome or self._owner.outcome

    def done(self) -> bool:
        """Whether it has ended, in whichever way."""
        state = self._state
        return state is not PENDING and state is not RUNNING

    def result(self) -> R:
        """The return value, without blocking.

        Raises ``asyncio.InvalidStateError`` while it is not done, what the
        callable raised, ``TimeoutError`` if it timed out, and
        ``CallbackNotRun`` if it was cancelled, skipped or dropped.
        """
        exception = self.exception()
        if exception is not None:
            raise exception
        result: R = self._result
        return result

    def exception(self) -> BaseException | None:
        """What ``result()`` would raise, or ``None``, without blocking.

        Raises ``asyncio.InvalidStateError`` while it is not done.
        """
        match self._state:
            case CallbackState.PENDING | CallbackState.RUNNING:
                raise asyncio.InvalidStateError(
                    f"callback {self.name} is still {self._state.value}; wait() waits for it"
                )
            case CallbackState.SUCCEEDED | CallbackState.FAILED:
                return self._exception
            case CallbackState.TIMED_OUT:
                return TimeoutError(
                    f"callback {self.name} did not end within its timeout of {self._timeout} s"
                )
        return CallbackNotRun(self.name, self._state, self._reason)

    def cancel(self) -> bool:
        """Cancel it; ``True`` if it had not started and now never will.

        A running coroutine function is cancelled as asyncio cancels a task; a
        running plain function cannot be stopped. Both answer ``False``.
        """
        if self._owner.settle(self, CallbackState.CANCELLED, expected=PENDING):
            return True
        self._ask_to_stop(CallbackState.CANCELLED)
        return False

    def _ask_to_stop(self, state: CallbackState, reason: str | None = None) -> None:
        """It is running: let it stop, and end in ``state``. Any thread may call.

        The lane sets ``_stop`` and then looks at ``_stopping``, here it is the
        other way round: one of the two sees the other.
        """
        if self.done() or self._stopping is not None:
            return
        self._reason = reason
        self._stopping = state
        stop = self._stop
        if stop is not None:
            stop.cancel(self)

    async def wait(self, timeout: float | None = None) -> R:
        """Wait up to ``timeout`` seconds for its end; its result, as ``result()``.

        Giving up the waiting does not touch the callback. Raises
        ``TimeoutError`` when the time is up, and ``RuntimeError`` at once
        where the waiting could never end: in its own exchange before the
        response, and in a sequential callback for itself or a later one.
        """
        if not self.done():
            _refuse_deadlock(self)
            with lending():
                if not await self._owner.latch(self).wait(timeout):
                    raise TimeoutError(
                        f"callback {self.name} was still {self._state.value} after {timeout} s"
                    )
        return self.result()

    def describe(self) -> str:
        """Name and exchange, for a log line."""
        return f"{self.name} of {self._owner.label()}"

    def values(self) -> dict[str, object]:
        """The same by name, for the attributes of a log record."""
        return {"callback": self.name, "state": self._state.value, **self._owner.values()}

    def __repr__(self) -> str:
        return f"<Callback {self.name} {self._state.name}>"


current_callback: ContextVar[Callback[Any] | None] = ContextVar(
    "async_after.callback", default=None
)


def running_callback() -> Callback[Any] | None:
    """The callback that this is called in, if it has not ended."""
    callback = current_callback.get()
    return callback if callback is not None and not callback.done() else None


def lending() -> AbstractContextManager[None]:
    """While inside, the callback that this is called in, if any, only waits."""
    waiting = running_callback()
    return nullcontext() if waiting is None else waiting._owner.host.lending(waiting)


current_owner: ContextVar[Owner | None] = ContextVar("async_after.exchange", default=None)
"""The current exchange. Those who know exchanges call it ``lookup.current_exchange``."""


def _refuse_deadlock(callback: Callback[Any]) -> None:
    """``RuntimeError`` where waiting for ``callback`` here can never end."""
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


def close_unstarted(returned: Any) -> None:
    """Nobody will await what a plain function has returned at its timeout."""
    if (
        isinstance(returned, CoroutineType)
        and inspect.getcoroutinestate(returned) == inspect.CORO_CREATED
    ):
        returned.close()


def name_of(func: Callable[..., Any]) -> str:
    """``module.qualname`` of what is called in the end: partials are unwrapped."""
    while isinstance(func, functools.partial):
        func = func.func
    if not hasattr(func, "__qualname__"):
        func = type(func)
    return f"{getattr(func, '__module__', None) or '?'}.{func.__qualname__}"
