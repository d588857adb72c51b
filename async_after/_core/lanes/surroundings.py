"""What is made ready for a callback, inside of its context, and cleaned up behind it.

Promise 8, context_kept: what in the copied context belongs to where it was made is replaced.
Promise 11, no_leaks: each callback of the runner has cache clients of its own, which end with it.
"""

import _thread
from collections.abc import Coroutine
from contextvars import Context, ContextVar
from typing import Any

from asgiref.sync import AsyncToSync, SyncToAsync

from ..exchange import Callback, current_callback
from ..runtime import django_settings, gevent
from . import cleanup, contexts
from .thread_sensitive import SessionExecutor

_executors = contexts.executors
_thread_sensitive: Any = SyncToAsync.thread_sensitive_context
_deadlock: ContextVar[bool] = SyncToAsync.deadlock_context


class ThreadSensitivity:
    """Where thread-sensitive calls go: by default, where those of the loop go."""

    __slots__ = ("_context", "_executor")

    def __init__(self, executor: object = None, context: object = None) -> None:
        self._executor = executor
        self._context = context

    @classmethod
    def here(cls) -> "ThreadSensitivity":
        """Where they go in the current context."""
        return cls(contexts.executor_here(), SyncToAsync.thread_sensitive_context.get(None))

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
        # None, and none here: the rule, and asking a Local costs as much as all the rest.
        is_none = executor is None and _executors is not None and not _executors.get(None)
        if not is_none and contexts.executor_here() is not executor:
            AsyncToSync.executors.current = executor
        _thread_sensitive.set(self._context)
        # That of a synchronous view says that its thread is taken.
        if _deadlock.get(False):
            _deadlock.set(False)


def enter(callback: Callback[Any]) -> None:
    """Called inside the callback's context: what every lane does first."""
    current_callback.set(callback)
    here = _thread.get_ident()
    if callback._thread != here:
        contexts.rehome_locals()
        callback._thread = here


class Surroundings:
    """Those of somebody who waits: connections and caches are his, and nothing is closed."""

    def __init__(self, sensitivity: ThreadSensitivity | None = None) -> None:
        self._sensitivity = sensitivity or ThreadSensitivity()

    def enter(self, callback: Callback[Any]) -> None:
        """Prepare the callback's own context, from inside."""
        enter(callback)
        self._sensitivity.apply()

    def leave(self, callback: Callback[Any], context: Context) -> Coroutine[Any, Any, None] | None:
        """Clean up after it; what is left to be awaited, if anything."""
        return None

    def lose(self, callback: Callback[Any]) -> None:
        """The same for a loop that is closed."""


class OwnSurroundings(Surroundings):
    """Those of a loop that goes on: caches of its own for each callback, and a worker for its
    thread-sensitive calls."""

    def __init__(self, sessions: SessionExecutor) -> None:
        self._sessions = sessions
        self._context = contexts.thread_sensitive_context(sessions)
        super().__init__(ThreadSensitivity(context=self._context))

    def enter(self, callback: Callback[Any]) -> None:
        # As ``enter`` and ``apply`` do, without a call: all coroutine functions come here.
        current_callback.set(callback)
        here = _thread.get_ident()
        if callback._thread != here:
            contexts.rehome_locals()
            callback._thread = here
        if _executors is None or _executors.get(None) or gevent.has_native_loops:
            self._sensitivity.apply()
        else:
            _thread_sensitive.set(self._context)
            if _deadlock.get(False):
                _deadlock.set(False)
        if _cache_variable is None or _cache_variable.get(None):
            forget_caches()

    def leave(self, callback: Callback[Any], context: Context) -> Coroutine[Any, Any, None] | None:
        if _cache_variable is None or context.get(_cache_variable):
            context.run(close_caches)
        return self._sessions.end(callback) if self._sessions.workers else None

    def lose(self, callback: Callback[Any]) -> None:
        self._sessions.lose(callback)


def forget_caches() -> None:
    """Let this callback make cache clients of its own.

    ``django.core.cache.caches`` keeps its clients in a Local, which travels
    with the context: without this, the view and all its callbacks would share
    one client, from several threads.
    """
    if _has_caches():
        for alias in _caches:
            try:
                del _caches[alias]
            except AttributeError:  # this one was not in use
                pass


def close_caches() -> None:
    """Close the cache clients of the current context, as Django does after a request."""
    if _has_caches():
        cleanup.guarded(_caches.close_all)


_caches: Any = None
"""Django's ``caches``, when the program uses them, and ..."""
_cache_variable: ContextVar[Any] | None = None
"""... the variable of the Local behind them, if it can be seen; whoever is in a hurry looks at it
alone. Django makes a new Local when ``CACHES`` changes, and says so."""


def _has_caches() -> bool:
    """Whether there may be cache clients in the current context."""
    global _caches, _cache_variable
    if _caches is None:
        module = cleanup.loaded("django.core.cache")
        if module is None:
            return False
        _caches = module.caches
        django_settings.listen(_forget_variable)
    if _cache_variable is None:
        _cache_variable = contexts.variable_of(_caches._connections)
    return _cache_variable is None or bool(_cache_variable.get(None))


def _forget_variable(*, setting: str, **more: Any) -> None:
    global _cache_variable
    if setting == "CACHES":
        _cache_variable = None
