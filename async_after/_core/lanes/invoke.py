"""Calling what was registered, as all lanes do it.

Enter the context of the registration, ask the predicate, call, and settle the
callback with whatever came of it (promise 5, isolated; promise 8,
context_kept).
"""

import _thread
import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..exchange import Callback, CallbackState, Exchange, Options, Outcome
from ..instrumentation import Around
from ..runtime import gevent, log, process, traceback_of
from . import cleanup, surroundings
from .own_thread import own_threads
from .returned import kind_of, refusal

SKIPPED = object()
"""The result of a call whose predicate said no."""


Ending = tuple[CallbackState, Any, BaseException | None]
"""State, result and exception."""


def ending_of(callback: Callback[Any], result: Any, error: BaseException | None) -> Ending:
    """How a callback ends that has run."""
    stopping = callback._stopping
    if stopping is CallbackState.TIMED_OUT:
        # However it ends, it did not within its time.
        return CallbackState.TIMED_OUT, None, None
    if error is None:
        return CallbackState.SUCCEEDED, result, None
    # By its type, here and elsewhere: ``isinstance`` may ask it for its ``__class__``.
    kind: type = type(error)
    if stopping is not None and issubclass(kind, asyncio.CancelledError):
        return stopping, None, None
    # The user's part of the traceback. (Our frames stay reachable from it, so
    # none of them keeps what the callback is about to drop.)
    traceback = traceback_of(error)
    while traceback is not None and _is_ours(traceback.tb_frame.f_globals.get("__package__")):
        traceback = traceback.tb_next
    # Not by assignment, which a frozen dataclass refuses (python/cpython#99856).
    BaseException.with_traceback(error, traceback)
    return CallbackState.FAILED, None, error


def end_child(callback: Callback[Any], error: BaseException | None) -> None:
    """Its process was forked while it ran. If it has forked it itself, this is the child, which
    would go on as the server: with those behind it, which are the parent's, and with requests."""
    if not process.is_childs():
        return
    if error is not None and not issubclass(type(error), SystemExit):
        message = "callback %s failed in a process that it has forked"
        log("error", "callback_failed", message, callback.describe(), of=callback, error=error)
    process.end_child(error)


def note(error: BaseException, text: str) -> None:
    """Once. Some take none, as frozen dataclasses, and some refuse to tell those they have."""
    with suppress(Exception):
        if text not in getattr(error, "__notes__", ()):
            error.add_note(text)


def _is_ours(package: str | None) -> bool:
    return package is not None and f"{package}.".startswith("async_after.")


def call(exchange: Exchange, callback: Callback[Any]) -> Any:
    """Call it, in its context. ``SKIPPED`` if its predicate says no."""
    options: Options = callback.options
    try:
        func, args, kwargs = callback._task  # type: ignore[misc]  # it has not ended
        if options.asks:
            outcome = callback._outcome or exchange.sealed
            if callable(options.when) and not _is_wanted(options.when, outcome, callback.name):
                return SKIPPED
            if options.takes_outcome:
                args = outcome, *args
        if around := callback._owner.host.ledger.hooks.around:
            Around(callback, around)
        return func(*args, **kwargs)
    finally:
        # The traceback of a failure keeps our frames alive: none of them may
        # keep the callback, which keeps the failure, nor what it drops.
        callback = func = args = kwargs = None  # type: ignore[assignment]


def _is_wanted(when: Callable[[Outcome], object], outcome: Outcome, name: str) -> bool:
    try:
        return bool(when(outcome))
    except Exception as error:
        note(error, f"The predicate (when=) of {name} raised: it was not called.")
        raise


def run_in_thread(
    exchange: Exchange,
    callback: Callback[Any],
    finish: Callable[..., object] | None = None,
    *,
    inline: bool = False,
    in_server: bool = False,
) -> None:
    """Run a plain function in this thread. It is not over if a timeout was faster, or if it has
    returned a coroutine, which a loop must await.

    ``finish``: settles it, in place of ``exchange.settle``.
    ``inline``: the thread is not the runner's, and nothing is closed in it. A child that the
    function has forked goes on there, as behind any other call, if it returns.
    ``in_server``: it is one of a WSGI server, whose database connections go on.
    What is no ``Exception`` is raised there too: a server's signal handlers
    raise ``SystemExit`` in it, and gevent its ``Timeout``.
    """
    if callback._state is not CallbackState.RUNNING:  # dropped while it waited for this thread
        return
    error: BaseException | None = None
    result: Any = None
    forks = process.forks
    try:
        result = _call_and_clean(exchange, callback, inline, in_server)
    except BaseException as raised:
        error = raised
    if process.forks != forks and (error is not None or not inline):
        end_child(callback, error)
    try:
        _settle(finish or exchange.settle, callback, result, error)
    except Exception as raised:  # whatever it is, the callback has an end
        exchange.settle(callback, CallbackState.FAILED, exception=raised)
    finally:
        try:
            if error is not None:
                _raise_in_thread(error, inline=inline, in_server=in_server)
        finally:
            del error, result, callback


def _call_and_clean(
    exchange: Exchange, callback: Callback[Any], inline: bool, in_server: bool
) -> Any:
    """Call it; then connections are as they were found."""
    try:
        if inline:
            return _call_inside(exchange, callback, is_clean=False)
        if in_server:
            before = cleanup.marks_here()
            try:
                return _call_inside(exchange, callback, is_clean=True)
            finally:
                cleanup.drop_marked(before, callback)
        cleanup.close_old_connections(of=callback)
        try:
            return _call_inside(exchange, callback, is_clean=True, in_worker=True)
        finally:
            own_threads.leave(callback)
            cleanup.close_old_connections(of=callback)
    finally:
        del callback  # see call


def _settle(
    finish: Callable[..., object], callback: Callback[Any], result: Any, error: BaseException | None
) -> None:
    """Settle what has run in a thread, if it is over."""
    try:
        kind = kind_of(result)
        if callback._state is not CallbackState.RUNNING:
            if kind == "coroutine":
                callback._discard(result)
        elif kind == "coroutine":
            callback._is_watched = True
            callback._returned = result
        elif result is SKIPPED:
            finish(callback, CallbackState.SKIPPED)
        else:
            if kind != "value":
                error = refusal(callback, result) if error is None else error
            finish(callback, *ending_of(callback, result, error))
    finally:
        del error, result, callback  # see call


def _raise_in_thread(error: BaseException, *, inline: bool, in_server: bool) -> None:
    """What is not for the callback alone."""
    try:
        kind = type(error)
        if in_server and not issubclass(kind, Exception | asyncio.CancelledError):
            raise error
        if issubclass(kind, KeyboardInterrupt):
            if inline:
                raise error
            _thread.interrupt_main()
    finally:
        del error


def _call_inside(
    exchange: Exchange, callback: Callback[Any], *, is_clean: bool, in_worker: bool = False
) -> Any:
    """Call it inside its context. ``is_clean``: with cache clients of its own."""
    context = callback._context
    assert context is not None, callback
    try:
        return context.run(_enter_and_call, exchange, callback, is_clean, in_worker)
    finally:
        del callback, context


def _enter_and_call(
    exchange: Exchange, callback: Callback[Any], is_clean: bool, in_worker: bool
) -> Any:
    try:
        surroundings.enter(callback)
        if in_worker and not gevent.is_patched():
            own_threads.enter()
        if is_clean:
            surroundings.forget_caches()
        result = call(exchange, callback)
        if callback._around is not None and kind_of(result) != "coroutine":
            callback._around.leave(refusal(callback, result))
        return result
    except BaseException as error:
        if callback._around is not None:
            callback._around.leave(error)
        raise
    finally:
        del callback
        if is_clean:
            surroundings.close_caches()
