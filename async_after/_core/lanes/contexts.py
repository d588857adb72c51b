"""Doors of asgiref that it keeps half shut, each opened in one function.

Promise 8, context_kept: a callback runs in a copy of the context at its
registration. Two things in that copy belong to where it was made, and are
moved or replaced here: asgiref's Locals, and the thread-sensitive context.
"""

import asyncio
import queue
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from typing import Any

from asgiref import sync as asgiref_sync
from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext

from ..runtime import gevent
from .cleanup import variable_of


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


class ThreadSensitivity:
    """Where thread-sensitive calls go: by default, where those of the loop go."""

    __slots__ = ("_context", "_executor")

    def __init__(self, executor: object = None, context: object = None) -> None:
        self._executor = executor
        self._context = context

    @classmethod
    def here(cls) -> "ThreadSensitivity":
        """Where they go in the current context."""
        return cls(_executor_here(), SyncToAsync.thread_sensitive_context.get(None))

    def apply(self) -> None:
        """Send those of the current context there, whatever was copied into it.

        A context copied below ``async_to_sync`` still names the executor of
        that call, which comes first in ``SyncToAsync.__call__`` though it may
        have quit. One copied in a request names the ThreadSensitiveContext of
        Django's handler: when that is over, a call through it would silently
        make a new thread, with a new database connection that nobody closes.
        """
        executor = self._executor
        if gevent.has_native_loops and gevent.is_native():
            executor = gevent.REFUSING
        if _executor_here() is not executor:
            AsyncToSync.executors.current = executor
        variable: Any = SyncToAsync.thread_sensitive_context
        variable.set(self._context)
        # That of a synchronous view says that its thread is taken.
        if SyncToAsync.deadlock_context.get(False):
            SyncToAsync.deadlock_context.set(False)


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
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def _executor_here() -> object:
    """That of the ``async_to_sync`` below which this is called."""
    if _executors is not None and not _executors.get(None):
        return None
    return getattr(AsyncToSync.executors, "current", None)


_executors = variable_of(AsyncToSync.executors)


def loop_of_this_thread() -> "asyncio.AbstractEventLoop | None":
    """The event loop that called into this thread with ``sync_to_async``, if one did."""
    return getattr(SyncToAsync.threadlocal, "main_event_loop", None)
