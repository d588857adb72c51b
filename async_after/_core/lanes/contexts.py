"""Doors of asgiref that it keeps half shut, each opened in one function.

Promise 8, context_kept: a callback runs in a copy of the context at its
registration. Two things in that copy belong to where it was made, and are
moved or replaced here: asgiref's Locals, and the thread-sensitive context.
"""

import asyncio
import queue
import traceback
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import ContextVar, copy_context
from typing import Any

from asgiref import sync as asgiref_sync
from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext

from ..runtime import process


def rehome_locals() -> None:
    """Make asgiref's Locals of the current context visible in this thread.

    Since asgiref 3.13 a ``Local`` (Django's language, time zone, urlconf) is
    tagged with its thread, and a context that merely runs in another thread
    shows the defaults. ``sync_to_async`` moves them with this private
    function; older versions have it too, and there it changes nothing.
    """
    asgiref_sync._restore_context(copy_context())


def thread_sensitive_context(executor: Executor) -> ThreadSensitiveContext:
    """A context whose thread-sensitive calls go to ``executor``.

    ``ThreadSensitiveContext(executor=...)`` exists since asgiref 3.13 only,
    and can be entered once; this mapping is what all versions look at.
    """
    context = ThreadSensitiveContext()
    SyncToAsync.context_to_thread_executor[context] = executor
    return context


class ThisThread(Executor):
    """Its calls run in the thread that is waiting for something else, in ``run_until``."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        self._calls.put(lambda: fulfil(future, fn, args, kwargs))
        return future

    def run_until(self, done: "Future[None]") -> None:
        done.add_done_callback(lambda done: self._calls.put(None))
        while (call := self._calls.get()) is not None:
            call()


def fulfil(
    future: "Future[Any]", fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Call it, and let the future tell."""
    if not future.set_running_or_notify_cancel():
        return
    forks = process.forks
    error: BaseException | None = None
    try:
        result = fn(*args, **kwargs)
    except BaseException as raised:
        error = raised
    if process.forks != forks and process.is_childs():
        # Who waits for the future is in the parent.
        if error is not None and not isinstance(error, SystemExit):
            traceback.print_exception(error)
        process.end_child(error)
    try:
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
    finally:
        del error


def variable_of(local: Any) -> ContextVar[Any] | None:
    """The context variable behind an asgiref ``Local`` that is not thread-critical.

    Asking a Local in vain for an attribute costs microseconds, for every
    callback. Its storage is private; where it is another one the answer is
    ``None``, and the slow way is taken.
    """
    variable = getattr(local._storage, "_data", None)
    return variable if isinstance(variable, ContextVar) else None


def executor_here() -> object:
    """That of the ``async_to_sync`` below which this is called."""
    if executors is not None and not executors.get(None):
        return None
    return getattr(AsyncToSync.executors, "current", None)


executors = variable_of(AsyncToSync.executors)


def loop_of_this_thread() -> "asyncio.AbstractEventLoop | None":
    """The event loop that called into this thread with ``sync_to_async``, if one did."""
    return getattr(SyncToAsync.threadlocal, "main_event_loop", None)
