"""Calling what was registered, as all lanes do it.

Enter the context of the registration, ask the predicate, call, and settle the
callback with whatever came of it (promise 5, isolated; promise 8,
context_kept).
"""

import _thread
import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from ..exchange import Callback, CallbackState, Exchange, Options, Outcome, current_callback
from . import cleanup, contexts

SKIPPED = object()
"""The result of a call whose predicate said no."""


def settle(
    exchange: Exchange, callback: Callback[Any], result: Any, error: BaseException | None
) -> bool:
    """Settle a callback that has run; ``False`` if a timeout was faster."""
    stopping = callback._stopping
    if stopping is CallbackState.TIMED_OUT:
        # However it ends, it did not within its time.
        return exchange.settle(callback, CallbackState.TIMED_OUT)
    if error is None:
        return exchange.settle(callback, CallbackState.SUCCEEDED, result)
    if stopping is not None and isinstance(error, asyncio.CancelledError):
        return exchange.settle(callback, stopping)
    # The user's part of the traceback. (Our frames stay reachable from it, so
    # none of them keeps what the callback is about to drop.)
    traceback = error.__traceback__
    while traceback is not None and _is_ours(traceback.tb_frame.f_globals.get("__package__")):
        traceback = traceback.tb_next
    # Not by assignment, which a frozen dataclass refuses (python/cpython#99856).
    BaseException.with_traceback(error, traceback)
    return exchange.settle(callback, CallbackState.FAILED, exception=error)


def note(error: BaseException, text: str) -> None:
    with suppress(Exception):  # a frozen dataclass takes none
        error.add_note(text)


def refusal(callback: Callback[Any], result: Any) -> TypeError | None:
    """For what was returned, and nobody would run. By its type alone: ``isinstance`` asks a
    lazy object for its ``__class__``, which loads it."""
    kind = type(result)
    if issubclass(kind, GeneratorType | AsyncGeneratorType):
        return TypeError(f"{callback.name} returned a generator: nothing iterates it")
    if any("__await__" in vars(each) for each in kind.__mro__):
        return TypeError(f"{callback.name} returned a {kind.__name__}: nothing awaits it")
    return None


def _is_ours(package: str | None) -> bool:
    return package is not None and f"{package}.".startswith("async_after.")


def call(exchange: Exchange, callback: Callback[Any]) -> Any:
    """Call it, in its context. ``SKIPPED`` if its predicate says no."""
    options: Options = callback.options
    try:
        if options.asks and callable(options.when):
            try:
                if not options.when(outcome_of(exchange, callback)):
                    return SKIPPED
            except Exception as error:
                note(error, f"The predicate (when=) of {callback.name} raised: it was not called.")
                raise
        task = callback._task
        assert task is not None, callback
        func, args, kwargs = task
        if options.takes_outcome:
            return func(outcome_of(exchange, callback), *args, **kwargs)
        return func(*args, **kwargs)
    finally:
        # The traceback of a failure keeps our frames alive: none of them may
        # keep the callback, which keeps the failure, nor what it drops.
        callback = task = func = args = kwargs = None  # type: ignore[assignment]


def outcome_of(exchange: Exchange, callback: Callback[Any]) -> Outcome:
    return callback._outcome or exchange.sealed


def enter(callback: Callback[Any]) -> None:
    """Called inside the callback's context: what every lane does first."""
    current_callback.set(callback)
    here = _thread.get_ident()
    if callback._thread != here:
        contexts.rehome_locals()
        callback._thread = here


def run_in_thread(
    exchange: Exchange, callback: Callback[Any], *, inline: bool = False, in_server: bool = False
) -> bool:
    """Run a plain function in this thread; ``False`` if it is not over: a timeout
    was faster, or it returned a coroutine, which a loop must await.

    ``inline``: the thread is not the runner's, and nothing is closed in it.
    ``in_server``: it is one of a WSGI server, whose database connections go on.
    What is no ``Exception`` is raised there too: a server's signal handlers
    raise ``SystemExit`` in it, and gevent its ``Timeout``.
    """
    if callback.done():  # dropped while it waited for this thread
        return False
    error: BaseException | None = None
    result: Any = None
    try:
        if inline or in_server:
            result = _call_inside(exchange, callback, is_clean=in_server)
        else:
            cleanup.close_old_connections()
            try:
                result = _call_inside(exchange, callback, is_clean=True)
            finally:
                cleanup.close_old_connections()
    except BaseException as raised:
        error = raised
    try:
        if callback.done():
            if issubclass(type(result), Coroutine):
                result.close()
            return False
        if result is None:
            return settle(exchange, callback, None, error)
        if issubclass(type(result), Coroutine):
            callback._returned = result
            return False
        if result is SKIPPED:
            return exchange.settle(callback, CallbackState.SKIPPED)
        return settle(exchange, callback, result, refusal(callback, result))
    except Exception as raised:  # whatever it is, the callback has an end
        return exchange.settle(callback, CallbackState.FAILED, exception=raised)
    finally:
        try:
            if error is not None:
                _raise_in_thread(error, inline=inline, in_server=in_server)
        finally:
            del error, result, callback


def _raise_in_thread(error: BaseException, *, inline: bool, in_server: bool) -> None:
    """What is not for the callback alone."""
    try:
        if in_server and not isinstance(error, Exception | asyncio.CancelledError):
            raise error
        if isinstance(error, KeyboardInterrupt):
            if inline:
                raise error
            _thread.interrupt_main()
    finally:
        del error


def _call_inside(exchange: Exchange, callback: Callback[Any], *, is_clean: bool) -> Any:
    """Call it inside its context. ``is_clean``: with cache clients of its own."""
    context = callback._context
    assert context is not None, callback
    try:
        return context.run(_enter_and_call, exchange, callback, is_clean)
    finally:
        del callback, context


def _enter_and_call(exchange: Exchange, callback: Callback[Any], is_clean: bool) -> Any:
    try:
        enter(callback)
        if is_clean:
            cleanup.forget_caches()
        return call(exchange, callback)
    finally:
        del callback
        if is_clean:
            cleanup.close_caches()
