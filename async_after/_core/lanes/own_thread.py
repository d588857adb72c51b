"""One thread for the thread-sensitive calls of a plain function that runs a loop of its own.

``asyncio.run()`` inside a callback makes the thread busy that it runs in, and what was copied
into its context names executors of the request, which have ended. Promise 11, no_leaks: the
connections of that thread are closed, and it ends, when the callback has ended.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import Context
from typing import Any

from ..exchange import Callback, current_callback
from . import cleanup, contexts
from .surroundings import ThreadSensitivity

_PATIENCE = 1.0
"""Seconds that a callback's end waits for its thread."""


class _Thread:
    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.is_over = threading.Event()
        thread = threading.Thread(target=self._serve, name="async_after own thread", daemon=True)
        Context().run(thread.start)

    def _serve(self) -> None:
        try:
            while (call := self.inbox.get()) is not None:
                call()
        finally:
            cleanup.close_connections()
            self.is_over.set()


class OwnThreads(Executor):
    """Looks at who is calling: one context serves all callbacks."""

    def __init__(self) -> None:
        self._threads: dict[Callback[Any], _Thread] = {}
        self._sensitivity: ThreadSensitivity | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        callback = current_callback.get()
        future: Future[Any] = Future()
        is_ours = callback is not None and not callback.done()
        thread = self._threads.get(callback) if callback is not None else None
        if thread is None or not is_ours:
            thread = _Thread()
            if callback is not None and is_ours:
                self._threads[callback] = thread
        thread.inbox.put(lambda: contexts.fulfil(future, fn, args, kwargs))
        if not is_ours:
            thread.inbox.put(None)
        return future

    def enter(self) -> None:
        """From inside a callback's context: its thread-sensitive calls come here."""
        if self._sensitivity is None:
            context = contexts.thread_sensitive_context(self)
            self._sensitivity = ThreadSensitivity(context=context)
        self._sensitivity.apply()

    def leave(self, callback: Callback[Any]) -> None:
        thread = self._threads.pop(callback, None) if self._threads else None
        if thread is not None:
            thread.inbox.put(None)
            thread.is_over.wait(_PATIENCE)


own_threads = OwnThreads()
