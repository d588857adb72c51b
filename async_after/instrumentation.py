"""Who hears of callbacks: logging always, and the user's instruments.

Promise 5, isolated: a failure is logged with its traceback, the callback's
name and the exchange's method, path and status; an instrument that raises
harms nobody. Promise 15, discreet: nothing else of the exchange is logged.
"""

import _thread
import logging
import traceback
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

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


def log(level: str, message: str, *arguments: object, **more: Any) -> None:
    """Log, whatever the user's filters and handlers raise: a callback is
    settled all the same. ``level``: the name of the logger's method."""
    try:
        getattr(logger, level)(message, *arguments, **more)
    except BaseException as error:
        traceback.print_exc()
        _pass_on(error)


def log_ended(callback: Callback[Any]) -> None:
    """What everybody wants in the log: failures, with traceback. (Losses have
    a pace of their own: ``losses``.)"""
    match callback.state:
        case CallbackState.FAILED:
            error = callback.exception()
            log("error", "callback %s failed", callback.describe(), exc_info=error)
        case CallbackState.TIMED_OUT:
            log("error", "callback %s timed out after %s s", callback.describe(), callback._timeout)
        case state:
            log("debug", "callback %s %s", callback.describe(), state.value)


def tell(instruments: Sequence[Instrument], event: str, callback: Callback[Any]) -> None:
    for instrument in instruments:
        try:
            getattr(instrument, event)(callback)
        except BaseException as error:  # a CancelledError, say: nobody here is cancelled
            log(
                "error",
                "instrument %s failed at %s of callback %s",
                type(instrument).__name__,
                event,
                callback.describe(),
                exc_info=error,
            )
            _pass_on(error)


def _pass_on(error: BaseException) -> None:
    """Ctrl-C is for the program, and must not cut our own work short."""
    if isinstance(error, KeyboardInterrupt):
        _thread.interrupt_main()
