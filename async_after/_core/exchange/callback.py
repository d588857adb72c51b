"""One registered callable, and what becomes of it.

Promise 15, discreet: neither arguments nor results appear in a ``repr``, and
callable, arguments and context are dropped as soon as the callback has ended.
"""

import asyncio
import functools
from _thread import get_ident
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, Literal, Protocol, TypeVar

from ..runtime import Latch
from .outcome import Completion, Outcome

R = TypeVar("R")

Predicate = Callable[[Outcome], object]
When = Literal["always", "success", "disconnect", "error", "acknowledged"]
Lane = Literal["loop", "threads", "background"]


class CallbackState(Enum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It raised."""
    TIMED_OUT = "timed out"
    """It did not end within its timeout."""
    CANCELLED = "cancelled"
    """``Callback.cancel()``, or a later registration of the same key."""
    SKIPPED = "skipped"
    """The outcome was not the one it was registered for."""
    DROPPED = "dropped"
    """The runner gave it up, at shutdown say. It is logged by name."""


# Looking a member up in its Enum costs ten times as much as a global, with every callback.
PENDING = CallbackState.PENDING
RUNNING = CallbackState.RUNNING
SUCCEEDED = CallbackState.SUCCEEDED


class CallbackNotRun(Exception):
    """The callback ended without a result: it was cancelled, skipped or dropped."""

    def __init__(self, name: str, state: CallbackState, reason: str | None = None) -> None:
        super().__init__(name, state, reason)
        self.name = name
        self.state = state
        self.reason = reason
        """Why it was dropped."""

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"callback {self.name} has no result: it was {self.state.value}{reason}"


@dataclass(frozen=True, slots=True)
class Options:
    """How a callback is to be run; checked where it is made (``registrar``)."""

    when: When | Predicate = "always"
    takes_outcome: bool = False
    timeout: float | None = None
    key: object = None
    name: str | None = None
    concurrent: bool = False
    lane: Lane | None = None
    on_commit: bool | str = False
    delivery_timeout: float | None = None

    asks: bool = field(init=False, compare=False, repr=False)
    """Whether the outcome matters to it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "asks", self.takes_outcome or self.when != "always")

    def wants(self, outcome: Outcome) -> bool:
        """Whether ``when`` selects this outcome. Predicates are asked in the lane."""
        match self.when:
            case "success":
                return outcome.is_success
            case "disconnect":
                return outcome.completion is Completion.DISCONNECTED
            case "error":
                return not outcome.is_success and outcome.completion is not Completion.DISCONNECTED
        return True


class Owner(Protocol):
    """What a callback asks of the exchange it belongs to."""

    @property
    def outcome(self) -> Outcome | None: ...
    def label(self) -> str: ...
    def values(self) -> dict[str, object]: ...
    def cancel(self, callback: "Callback[Any]") -> bool: ...
    def stop(
        self, callback: "Callback[Any]", state: CallbackState, reason: str | None = None
    ) -> None: ...
    def settle(
        self, callback: "Callback[Any]", state: CallbackState, *, reason: str | None = None
    ) -> bool: ...
    def latch(self, callback: "Callback[Any]") -> Latch: ...
    def refuse_deadlock(self, callback: "Callback[Any]") -> None: ...
    def lending(self) -> AbstractContextManager[None]: ...
    def lend(self, callback: "Callback[Any]") -> AbstractContextManager[None]: ...


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
        return self._owner.cancel(self)

    async def wait(self, timeout: float | None = None) -> R:
        """Wait up to ``timeout`` seconds for its end; its result, as ``result()``.

        Giving up the waiting does not touch the callback. Raises
        ``TimeoutError`` when the time is up, and ``RuntimeError`` at once
        where the waiting could never end: in its own exchange before the
        response, and in a sequential callback for itself or a later one.
        """
        if not self.done():
            self._owner.refuse_deadlock(self)
            with self._owner.lending():
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


def name_of(func: Callable[..., Any]) -> str:
    """``module.qualname`` of what is called in the end: partials are unwrapped."""
    while isinstance(func, functools.partial):
        func = func.func
    if not hasattr(func, "__qualname__"):
        func = type(func)
    return f"{getattr(func, '__module__', None) or '?'}.{func.__qualname__}"
