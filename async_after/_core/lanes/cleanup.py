"""Django's connections and caches, left as they were found.

Promise 11, no_leaks: a callback leaves neither a database nor a cache
connection behind. Django is looked up by name: this imports none of it
(promise 13), and where a program has not loaded it there is nothing to do.
"""

import sys
import threading
from collections.abc import Callable, Collection
from typing import Any

from ..exchange import Callback
from ..runtime import log
from . import marks

_is_configured = False
"""Whether Django's settings were seen to be configured: then they stay so."""


class _Thread(threading.local):
    sessions = 0
    """Async callbacks whose thread-sensitive calls come to this thread."""


_here = _Thread()


def close_old_connections(
    *, are_ours: bool = True, keep: Collection[str] = (), of: Callback[Any] | None = None
) -> None:
    """Close this thread's database connections that are unusable or too old,
    and let Django look whether the others still work before it uses them, if
    they ``are_ours``: views have their own mind about that. ``keep``: those
    in whose transaction this is called (``open_blocks``), by alias. ``of``:
    the callback that this is done for, if it is one.

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
        guarded(connection.close_if_unusable_or_obsolete, of)
        connection.close_at = close_at
        if are_ours:
            _check_before_use(connection)
        if _here.sessions:
            continue
        # A callback has left an atomic() block entered: Django waits for the block's end before
        # it connects again, and that will not come. Or it has left what the next one must not
        # see.
        if connection.closed_in_transaction or (are_ours and marks.is_marked(connection)):
            _drop(connection, of)


def marks_here() -> dict[Any, marks.Marks | None]:
    """What stands on the connections of this thread, which is a server's."""
    return {connection: marks.marks_of(connection) for connection in _connections()}


def drop_marked(before: dict[Any, marks.Marks | None], of: Callback[Any]) -> None:
    """Drop those on which a callback has left something since ``marks_here()``."""
    for connection in _connections():
        # In a block of the server's own they have to stay.
        if not connection.in_atomic_block and marks.is_marked(connection, before.get(connection)):
            _drop(connection, of)


def _drop(connection: Any, of: Callback[Any] | None) -> None:
    guarded(connection.close, of)
    del sys.modules["django.db"].connections[connection.alias]


def open_blocks() -> set[str]:
    """The databases with a transaction open in this thread, by alias."""
    return {connection.alias for connection in _connections() if connection.in_atomic_block}


def begin_session(of: Callback[Any]) -> None:
    """An async callback comes into this thread, where others may be already."""
    close_old_connections(of=of)
    _here.sessions += 1


def end_session(of: Callback[Any]) -> None:
    """It has ended."""
    _here.sessions -= 1
    close_old_connections(of=of)


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
        guarded(connection.close)


def _connections() -> list[Any]:
    """Django's wrappers of this thread's connections, open or not."""
    db = loaded("django.db")
    if db is None:
        return []
    marks.listen()
    if _is_unused(db.connections._connections):
        return []
    connections: list[Any] = db.connections.all(initialized_only=True)
    return connections


def _is_unused(local: Any) -> bool:
    """Whether a thread-critical ``Local`` surely holds nothing in this thread."""
    storage = local._storage
    return isinstance(storage, threading.local) and not storage.__dict__


def loaded(name: str) -> Any:
    """A module of Django if the program uses it: loaded, and with settings."""
    global _is_configured
    module = sys.modules.get(name)
    if module is None:
        return None
    if not _is_configured:
        _is_configured = sys.modules["django.conf"].settings.configured
    return module if _is_configured else None


def guarded(clean: Callable[[], object], of: Callback[Any] | None = None) -> None:
    try:
        clean()
    except Exception:
        log("exception", "cleanup_failed", "cleaning up after a callback failed", of=of)
