"""Who hears of callbacks: logging always, and the user's instruments.

Promise 5, isolated: a failure is logged with its traceback, the callback's
name and the exchange's method, path and status; an instrument that raises
harms nobody. Promise 15, discreet: nothing else of the exchange is logged.
"""

from abc import ABC
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from .exchange import Callback, CallbackState, Hooks
from .runtime import log, pass_on

Hook = Callable[[Callback[Any]], Any]


class Instrument(ABC):  # noqa: B024  # all hooks are empty
    """Hears of every callback of a runner, in the thread where it happens and in the context
    of the callback. Any object that has at least one of these hooks is an instrument.

    They are called while work goes on: they must be quick, and may be
    called from several threads at once. What they raise is logged.
    """

    def registered(self, callback: Callback[Any]) -> None:  # noqa: B027
        """It is registered, and PENDING."""

    def started(self, callback: Callback[Any]) -> None:  # noqa: B027
        """It is about to be called: RUNNING. Never for what does not run."""

    def ended(self, callback: Callback[Any]) -> None:  # noqa: B027
        """It has its final state: ``callback.state``."""

    def around(self, callback: Callback[Any]) -> AbstractContextManager[object]:
        """What is entered around the call, in the lane and in the callback's own context.
        It is told what the callback raises, and cannot swallow it."""
        return nullcontext()

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        if cls is not Instrument:
            return NotImplemented
        return any(callable(getattr(other, hook, None)) for hook in Hooks._fields)


def hooks_of(instruments: Iterable[object]) -> Hooks:
    """The hooks that these have, for each event: not the empty ones of ``Instrument``."""
    found: dict[str, list[Hook]] = {event: [] for event in Hooks._fields}
    for instrument in instruments:
        for event, hooks in found.items():
            hook = getattr(instrument, event, None)
            is_empty = getattr(hook, "__func__", None) is getattr(Instrument, event)
            if callable(hook) and not is_empty:
                hooks.append(hook)
    return Hooks(**found)


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


def tell(hooks: Sequence[Hook], event: str, callback: Callback[Any]) -> None:
    """Call these hooks, inside the callback's context."""
    inside = callback.context()
    for hook in hooks:
        try:
            inside.run(hook, callback)
        except BaseException as error:  # a CancelledError, say: nobody here is cancelled
            _say_failed(hook, event, callback, error)


class Around:
    """The context managers that instruments have entered around one callback. All of it is
    called inside the callback's own context."""

    def __init__(self, callback: Callback[Any], hooks: Sequence[Hook]) -> None:
        self._callback = callback
        self._entered: list[tuple[Hook, Callable[..., object]]] = []
        callback._around = self
        for hook in hooks:
            try:
                manager = hook(callback)
                leave = partial(type(manager).__exit__, manager)
                type(manager).__enter__(manager)
            except BaseException as error:
                _say_failed(hook, "around", callback, error)
            else:
                self._entered.append((hook, leave))

    def leave(self, error: BaseException | None) -> None:
        """The callback has returned, or raised this. They cannot swallow it."""
        callback, self._callback._around = self._callback, None
        try:
            while self._entered:
                hook, leave = self._entered.pop()
                try:
                    leave(*(None, None, None) if error is None else _described(error))
                except BaseException as raised:
                    if raised is not error:
                        _say_failed(hook, "around", callback, raised)
        finally:
            del callback, error  # the traceback of a failure keeps our frames


def _described(error: BaseException) -> tuple[object, ...]:
    return type(error), error, error.__traceback__


def _say_failed(hook: Hook, event: str, callback: Callback[Any], error: BaseException) -> None:
    name = type(getattr(hook, "__self__", hook)).__name__
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
