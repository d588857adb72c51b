"""Django's connections and caches, left as they were found.

Promise 11, no_leaks: a callback leaves neither a database nor a cache
connection behind. Django is looked up by name: this imports none of it
(promise 13), and where a program has not loaded it there is nothing to do.
"""

import sys
import threading
from collections.abc import Callable, Collection
from contextvars import ContextVar
from typing import Any

from .instrumentation import log

_is_configured = False
"""Settings that have been configured once stay so."""


class _Thread(threading.local):
    sessions = 0
    """Async callbacks whose thread-sensitive calls come to this thread."""


_here = _Thread()


def close_old_connections(*, are_ours: bool = True, keep: Collection[str] = ()) -> None:
    """Close this thread's database connections that are unusable or too old,
    and let Django look whether the others still work before it uses them, if
    they ``are_ours``: views have their own mind about that. ``keep``: those
    in whose transaction this is called (``open_blocks``), by alias.

    Django closes them itself at both ends of each request, but only in the
    request's own thread (Django's docs, "Persistent connections").
    """
    for connection in _connections():
        if connection.alias in keep:
            continue
        close_at = connection.close_at
        if _here.sessions and not getattr(connection, "pool", None):
            # Whoever comes into the thread of an async callback leaves it its
            # connection: it may be fetching from it. Not so with a pool, which
            # the views have to live on too.
            connection.close_at = None
        _guarded(connection.close_if_unusable_or_obsolete)
        connection.close_at = close_at
        if are_ours:
            _check_before_use(connection)
        if connection.closed_in_transaction and not _here.sessions:
            # A callback has left an atomic() block entered. Django waits for
            # the block's end before it connects again; that will not come.
            del sys.modules["django.db"].connections[connection.alias]


def open_blocks() -> set[str]:
    """The databases with a transaction open in this thread, by alias."""
    return {connection.alias for connection in _connections() if connection.in_atomic_block}


def begin_session() -> None:
    """An async callback comes into this thread, where others may be already."""
    close_old_connections()
    _here.sessions += 1


def end_session() -> None:
    """It has ended."""
    _here.sessions -= 1
    close_old_connections()


def _check_before_use(connection: Any) -> None:
    """The one door to Django's health checks.

    A persistent connection may have lain here for long, and the database may
    have ended it. Django looks only with CONN_HEALTH_CHECKS, which is off by
    default: whoever meets a broken view asks again, but nobody repeats a
    callback. So here it always looks, once, at the first query after
    ``close_if_unusable_or_obsolete``: a round trip for what uses the database,
    none for what does not or opens a connection (``connect()`` puts the
    setting back). Not with a psycopg pool, which has a check of its own.
    """
    connection.health_check_enabled = True


def close_connections() -> None:
    """Close all of this thread's database connections: the thread is about to end."""
    for connection in _connections():
        _guarded(connection.close)


def _connections() -> list[Any]:
    """Django's wrappers of this thread's connections, open or not."""
    db = _loaded("django.db")
    if db is None or is_empty(db.connections._connections):
        return []
    connections: list[Any] = db.connections.all(initialized_only=True)
    return connections


def forget_caches() -> None:
    """Let this callback make cache clients of its own.

    ``django.core.cache.caches`` keeps its clients in a Local, which travels
    with the context: without this, the view and all its callbacks would share
    one client, from several threads.
    """
    module = _loaded("django.core.cache")
    if module is None or is_empty(module.caches._connections):
        return
    for alias in module.caches:
        try:
            del module.caches[alias]
        except AttributeError:  # this one was not in use
            pass


def has_caches() -> bool:
    """Whether Django's caches are in use at all."""
    return _loaded("django.core.cache") is not None


def close_caches() -> None:
    """Close the cache clients of the current context, as Django does after a request."""
    module = _loaded("django.core.cache")
    if module is not None and not is_empty(module.caches._connections):
        _guarded(module.caches.close_all)


def is_empty(local: Any) -> bool:
    """Whether an asgiref ``Local`` surely holds nothing in this context or,
    if it is thread-critical, in this thread.

    Asking it in vain for an attribute costs microseconds, for every callback.
    Its storage is private; where it is another one the answer is ``False``,
    and the slow way is taken.
    """
    storage = local._storage
    if isinstance(storage, threading.local):
        return not storage.__dict__
    variable = getattr(storage, "_data", None)
    return isinstance(variable, ContextVar) and not variable.get(None)


def _loaded(name: str) -> Any:
    """A module of Django if the program uses it: loaded, and with settings."""
    global _is_configured
    module = sys.modules.get(name)
    if module is None:
        return None
    if not _is_configured:
        _is_configured = sys.modules["django.conf"].settings.configured
    return module if _is_configured else None


def _guarded(clean: Callable[[], object]) -> None:
    try:
        clean()
    except Exception:
        log("exception", "cleanup_failed", "cleaning up after a callback failed")
