"""What everything says in the log, each thing at its pace.

Promise 15, discreet: of an exchange, method, path and status are logged, and nothing else.
Promise 16, in_context: whatever is said of a callback (log record, instrument, hook) is said
inside the callback's context; no thread, timer or loop of ours carries the context of the request
in which it happened to be started.

Each record names its event, a constant, and has what it says as attributes
too (logging's ``extra``), for handlers that write JSON and filters that count.
"""

import _thread
import functools
import logging
import sys
import traceback
from _thread import RLock
from contextlib import suppress
from contextvars import Context
from types import TracebackType
from typing import Any, Literal, Protocol

from . import django_settings
from .clock import monotonic

logger: logging.Logger = logging.getLogger("async_after")

Level = Literal["debug", "info", "warning", "error", "exception"]
Event = Literal[
    "callback_ended",
    "callback_failed",
    "callback_timed_out",
    "callback_dropped",
    "callbacks_dropped",
    "callback_not_started",
    "callback_slow",
    "callback_blocked_loop",
    "callback_long_running",
    "callback_unsettled",
    "callbacks_awaited",
    "cleanup_failed",
    "exchange_end_failed",
    "instrument_failed",
    "runner_full",
    "threads_full",
    "settings_wrong",
    "shutdown_began",
    "shutdown_lost",
    "sigterm_not_handled",
    "uwsgi_without_threads",
    "internal_error",
]
"""The events of the log. They stay; README says what each one means."""


class Described(Protocol):
    """What a record may be about: a callback or an exchange."""

    def values(self) -> dict[str, object]:
        """What is said of it in the log, by name."""

    def context(self) -> Context:
        """Where handlers and filters find its request id, its span, its scope."""


def log(
    level: Level,
    event: Event,
    message: str,
    *arguments: object,
    of: Described | None = None,
    error: BaseException | None = None,
    **values: object,
) -> None:
    """Log, whatever the user's filters and handlers raise: a callback is
    settled all the same. ``level``: the name of the logger's method. What is said
    of a callback is said in its context."""
    try:
        extra = {"event": event, **(of.values() if of is not None else {}), **values}
        more: dict[str, Any] = {}
        if error is not None:
            # Not the error alone, which logging would ask for its truth, and for its traceback.
            more["exc_info"] = type(error), error, traceback_of(error)
        say = getattr(logger, level)
        if of is not None:
            say = functools.partial(of.context().run, say)
        say(message, *arguments, extra=extra, **more)
        if is_debug() and not _is_visible(level):
            if error is None and level == "exception":
                error = sys.exception()
            _show(message, arguments, error)
    except BaseException as raised:
        with suppress(Exception):  # stderr may be gone
            traceback.print_exc()
        pass_on(raised)


def traceback_of(error: BaseException) -> TracebackType | None:
    """Its traceback, whatever its class has made of that name."""
    found: TracebackType | None = _traceback.__get__(error)
    return found


_traceback: Any = vars(BaseException)["__traceback__"]


def is_debug() -> bool:
    """Whether Django runs with ``DEBUG = True``."""
    return bool(django_settings.value("DEBUG"))


def _is_visible(level: Level) -> bool:
    """Whether the log takes it. Django's ``LOGGING`` disables what was imported
    before, unless it says ``"disable_existing_loggers": False``."""
    number = logging.ERROR if level == "exception" else getattr(logging, level.upper())
    return number < logging.WARNING or (not logger.disabled and logger.isEnabledFor(number))


def _show(message: str, arguments: tuple[object, ...], error: BaseException | None) -> None:
    """With ``DEBUG = True`` nobody should have to look for an error."""
    print(f"async_after: {message % arguments}", file=sys.stderr)
    if error is not None:
        traceback.print_exception(error)


def pass_on(error: BaseException) -> None:
    """Ctrl-C is for the program, and must not cut our own work short."""
    if issubclass(type(error), KeyboardInterrupt):
        _thread.interrupt_main()


class Pace:
    """How often something may be logged: so many times in so many seconds."""

    def __init__(self, times: int, seconds: float) -> None:
        self._times = times
        self._seconds = seconds
        self._lock = RLock()  # a destructor may come back here
        self._since = float("-inf")
        self._count = 0

    def is_due(self) -> bool:
        now = monotonic()
        with self._lock:
            if now - self._since >= self._seconds:
                self._since = now
                self._count = 0
            self._count += 1
            return self._count <= self._times
