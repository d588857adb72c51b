"""Django's connections and caches, left as they were found.

Promise 11, no_leaks: a callback leaves neither a database nor a cache
connection behind. Django is looked up by name: this imports none of it
(promise 13), and where a program has not loaded it there is nothing to do.
"""

import sys
import threading
from collections.abc import Callable, Collection
from contextvars import Context, ContextVar
from typing import Any

from ..runtime import log

_is_configured = False
"""Whether Django's settings were seen to be configured: then they stay so."""


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
    if db is None or _is_unused(db.connections._connections):
        return []
    connections: list[Any] = db.connections.all(initialized_only=True)
    return connections


def forget_caches() -> None:
    """Let this callback make cache clients of its own.

    ``django.core.cache.caches`` keeps its clients in a Local, which travels
    with the context: without this, the view and all its callbacks would share
    one client, from several threads.
    """
    if has_caches():
        for alias in _caches:
            try:
                del _caches[alias]
            except AttributeError:  # this one was not in use
                pass


def close_caches() -> None:
    """Close the cache clients of the current context, as Django does after a request."""
    if has_caches():
        _guarded(_caches.close_all)


_caches: Any = None
"""Django's ``caches``, when the program uses them, ..."""
_cache_clients: Any = None
"""... the Local behind them, and ..."""
_cache_variable: ContextVar[Any] | None = None
"""... its variable, if it can be seen."""


def has_caches(context: Context | None = None) -> bool:
    """Whether there may be cache clients in this context, by default the current one."""
    global _caches, _cache_clients, _cache_variable
    if _caches is None:
        module = _loaded("django.core.cache")
        if module is None:
            return False
        _caches = module.caches
    clients = _caches._connections
    if clients is not _cache_clients:  # Django makes a new one when CACHES changes
        # The clients last: other threads ask them first.
        _cache_variable, _cache_clients = variable_of(clients), clients
    variable = _cache_variable
    if variable is None:
        return True
    return bool(variable.get(None) if context is None else context.get(variable))


def variable_of(local: Any) -> ContextVar[Any] | None:
    """The context variable behind an asgiref ``Local`` that is not thread-critical.

    Asking a Local in vain for an attribute costs microseconds, for every
    callback. Its storage is private; where it is another one the answer is
    ``None``, and the slow way is taken.
    """
    variable = getattr(local._storage, "_data", None)
    return variable if isinstance(variable, ContextVar) else None


def _is_unused(local: Any) -> bool:
    """Whether a thread-critical ``Local`` surely holds nothing in this thread."""
    storage = local._storage
    return isinstance(storage, threading.local) and not storage.__dict__


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
