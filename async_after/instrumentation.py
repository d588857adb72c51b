"""Who hears of callbacks: logging always, and the user's instruments.

Promise 5, isolated: a failure is logged with its traceback, the callback's
name and the exchange's method, path and status; an instrument that raises
harms nobody. Promise 15, discreet: nothing else of the exchange is logged.

Each record names its event, a constant, and has what it says as attributes
too (logging's ``extra``), for handlers that write JSON and filters that count.
"""

import _thread
import logging
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol, runtime_checkable

from . import django_settings
from .callback import Callback, CallbackState

logger: logging.Logger = logging.getLogger("async_after")


@runtime_checkable
class Instrument(Protocol):
    """Hears of every callback of a runner, in the thread where it happens.

    The methods are called while work goes on: they must be quick, and may be
    called from several threads at once. What they raise is logged.
    """

    def registered(self, callback: Callback[Any]) -> None: ...

    def started(self, callback: Callback[Any]) -> None: ...

    def ended(self, callback: Callback[Any]) -> None:
        """It has its final state: ``callback.state``."""


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
    settled all the same. ``level``: the name of the logger's method."""
    try:
        extra = {"event": event, **(of.values() if of is not None else {}), **values}
        more = {"exc_info": error} if error is not None else {}
        getattr(logger, level)(message, *arguments, extra=extra, **more)
        if is_debug() and not _is_visible(level):
            _show(message, arguments, error or (sys.exception() if level == "exception" else None))
    except BaseException as raised:
        with suppress(Exception):  # stderr may be gone
            traceback.print_exc()
        _pass_on(raised)


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


def log_ended(callback: Callback[Any]) -> None:
    """What everybody wants in the log: failures, with traceback. (Losses have
    a pace of their own: ``losses``.)"""
    match callback.state:
        case CallbackState.FAILED:
            error = callback.exception()
            described = callback.describe()
            log(
                "error",
                "callback_failed",
                "callback %s failed",
                described,
                of=callback,
                error=error,
            )
        case CallbackState.TIMED_OUT:
            log(
                "error",
                "callback_timed_out",
                "callback %s timed out after %s s",
                callback.describe(),
                callback._timeout,
                of=callback,
                timeout=callback._timeout,
            )
        case state:
            message = "callback %s %s"
            log("debug", "callback_ended", message, callback.describe(), state.value, of=callback)


def tell(instruments: Sequence[Instrument], event: str, callback: Callback[Any]) -> None:
    for instrument in instruments:
        try:
            getattr(instrument, event)(callback)
        except BaseException as error:  # a CancelledError, say: nobody here is cancelled
            name = type(instrument).__name__
            log(
                "error",
                "instrument_failed",
                "instrument %s failed at %s of callback %s",
                name,
                event,
                callback.describe(),
                of=callback,
                error=error,
                instrument=name,
            )
            _pass_on(error)


def _pass_on(error: BaseException) -> None:
    """Ctrl-C is for the program, and must not cut our own work short."""
    if isinstance(error, KeyboardInterrupt):
        _thread.interrupt_main()
