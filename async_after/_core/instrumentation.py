"""Who hears of callbacks: logging always, and the user's instruments.

Promise 5, isolated: a failure is logged with its traceback, the callback's
name and the exchange's method, path and status; an instrument that raises
harms nobody. Promise 15, discreet: nothing else of the exchange is logged.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from .exchange import Callback, CallbackState
from .runtime import log, pass_on


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


def log_ended(callback: Callback[Any]) -> None:
    """What everybody wants in the log: failures, with traceback. (What is
    DROPPED is logged at a pace of its own: ``capacity.reports``.)"""
    match callback.state:
        case CallbackState.FAILED:
            error = callback.exception()
            described = callback.describe()
            message = "callback %s failed"
            log("error", "callback_failed", message, described, of=callback, error=error)
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
            pass_on(error)
