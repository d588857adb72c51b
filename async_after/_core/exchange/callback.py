"""One registered callable, and what becomes of it.

Promise 15, discreet: neither arguments nor results appear in a ``repr``, and
callable, arguments and context are dropped as soon as the callback has ended.
"""

import asyncio
from _thread import get_ident
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from ..runtime import Latch, clock, monotonic
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
    def cancel(self, callback: "Callback[Any]") -> bool: ...
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
    def wait_for(self, callback: "Callback[Any]", timeout: float | None) -> Awaitable[None]: ...
    @property
    def host(self) -> Any: ...


class Stopper(Protocol):
    """Who can cancel a running callback."""

    def cancel(self, callback: "Callback[Any]") -> None:
        """Cancel it, if it still runs. Any thread may call."""


Task = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""What a callback calls: the callable, and its arguments."""


class Place:
    """Of one key. It is found before the lock, as comparing keys is the user's code."""

    __slots__ = ("callback",)

    def __init__(self) -> None:
        self.callback: Callback[Any] | None = None
        """The last that was registered."""


class Callback(Generic[R]):
    """The handle of one registration.

    It is not awaitable: registering does not wait. ``await callback.wait()``
    does, in another exchange or in a concurrent callback.
    """

    # Written by the exchange alone, under its lock; read by anyone.
    __slots__ = (
        "__weakref__",
        "_around",
        "_began",
        "_context",
        "_ended",
        "_exception",
        "_is_dormant",
        "_is_waiting",
        "_is_watched",
        "_latch",
        "_never",
        "_number",
        "_outcome",
        "_owner",
        "_place",
        "_reason",
        "_registered",
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
        # Somebody is to be told of its end, or it has something to give back then.
        self._is_watched = False
        # Where the exchange finds it by its key.
        self._place: Place | None = None
        # Which one of its exchange; 0 until it is in the books.
        self._number = 0
        # Why it was dropped.
        self._reason: str | None = None
        # It waits for something that may never come, and nobody waits for it.
        self._is_dormant = False
        # It was told, in the middle of a change, that it never begins.
        self._never = False
        # Its own, if it is another than that of its exchange.
        self._outcome: Outcome | None = None
        # What instruments have entered around it.
        self._around: Any = None
        self._registered: float = monotonic()
        self._began: float | None = None
        self._ended: float | None = None

    @property
    def state(self) -> CallbackState:
        return self._state

    @property
    def outcome(self) -> Outcome | None:
        """What became of the response; ``None`` until the exchange has ended."""
        return self._outcome or self._owner.outcome

    @property
    def registered_at(self) -> datetime:
        """When it was registered: aware, in UTC."""
        return clock.on_the_wall(self._registered)

    @property
    def started_at(self) -> datetime | None:
        """When it began to run: aware, in UTC. ``None`` if it has not."""
        return None if self._began is None else clock.on_the_wall(self._began)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended, in whichever way: aware, in UTC. ``None`` if it has not."""
        return None if self._ended is None else clock.on_the_wall(self._ended)

    @property
    def waited(self) -> float | None:
        """Seconds from its registration to its start; ``None`` if it has not started."""
        return None if self._began is None else self._began - self._registered

    @property
    def took(self) -> float | None:
        """Seconds from its start to its end; ``None`` if it has not run, or has not ended."""
        if self._began is None or self._ended is None:
            return None
        return self._ended - self._began

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
            try:
                stop.cancel(self)
            except Exception:  # no memory is left, say: ask again
                self._stopping = None
                raise

    def _discard(self, returned: Any) -> None:
        """Nobody will await the coroutine that it has returned, at its timeout say."""
        returned.close()
        if self._around is not None:
            (self._context or Context()).run(self._around.leave, None)

    async def wait(self, timeout: float | None = None) -> R:
        """Wait up to ``timeout`` seconds for its end; its result, as ``result()``.

        Giving up the waiting does not touch the callback. Raises
        ``TimeoutError`` when the time is up, and ``RuntimeError`` at once
        where the waiting could never end: in its own exchange before the
        response, and in a sequential callback for itself or a later one.
        ``TypeError`` or ``ValueError`` for a timeout that nobody can wait.
        """
        clock.refuse_timeout("wait", timeout)
        if not self.done():
            await self._owner.wait_for(self, timeout)
        return self.result()

    def describe(self) -> str:
        """Name and exchange, for a log line."""
        return f"{self.name} of {self._owner.label()}"

    def context(self) -> Context:
        """A copy of its own, in which everything is said of it (log, instruments): its own may
        be in use, in another thread too. Empty when all has been said."""
        own = self._context
        return Context() if own is None else own.copy()

    def values(self) -> dict[str, object]:
        """The same by name, for the attributes of a log record."""
        return {"callback": self.name, "state": self._state.value, **self._owner.values()}

    def __repr__(self) -> str:
        return f"<Callback {self.name} {self._state.name}>"
