"""Callbacks that wait for the commit of a database transaction, too.

Django is looked up by name and never imported (promise 13). What a rollback, to
a savepoint too, or the closing of a connection does to such a callback is
noticed by the death of its hook in ``connection.run_on_commit``.
"""

import functools
import sys
from types import FrameType
from typing import Any

from ..exchange import Callback, Exchange
from ..runtime import check_stack, gevent, running_loop


def refuse_async(name: str) -> None:
    """Connections belong to threads, and that of a coroutine is not the ORM's."""
    if running_loop() is None:
        return
    raise RuntimeError(
        f"after_response.using(on_commit=...)({name}) was called in async code, which has no"
        " database connection of its own. Use 'await aafter_response.using(on_commit=...)(...)'."
    )


def add(exchange: Exchange, callback: Callback[Any], on_commit: bool | str) -> None:
    """Register it, to become ready when the transaction around this commits; at
    once where there is none. In the thread of the connection."""
    check_stack()
    connection = _connection("default" if on_commit is True else str(on_commit))
    if connection.closed_in_transaction:
        # Django has dropped the hooks already, and will drop a new one some day.
        exchange.add(callback, dormant=True)
        exchange.skip_dormant(callback)
        return
    if connection.in_atomic_block:
        exchange.add(callback, dormant=True)
        # Robust, as the user's own hooks behind it are not ours to stop.
        connection.on_commit(_Hook(exchange, callback), robust=True)
        return
    _refuse_manual(connection, callback.name)
    exchange.add(callback)


def _connection(alias: str) -> Any:
    db = sys.modules.get("django.db")
    if db is None:
        raise RuntimeError("using(on_commit=...) needs Django's databases: django.db is not there")
    return db.connections[alias]


def _refuse_manual(connection: Any, name: str) -> None:
    if connection.connection is None:
        is_autocommit = connection.settings_dict["AUTOCOMMIT"]
    else:
        is_autocommit = connection.autocommit
    if not is_autocommit:
        error: Any = sys.modules["django.db.transaction"].TransactionManagementError
        raise error(
            f"using(on_commit=...)({name}): database {connection.alias!r} has autocommit turned"
            " off, and Django runs commit hooks of atomic() alone. Use atomic()."
        )


class _Hook:
    """Django keeps it until the commit, which calls it, or the rollback, which drops it."""

    def __init__(self, exchange: Exchange, callback: Callback[Any]) -> None:
        self._exchange = exchange
        self._callback = callback

    def __call__(self) -> None:
        ready = functools.partial(self._exchange.ready, self._callback)
        try:
            check_stack()
        except RecursionError:  # a commit does not fail for that
            gevent.start_thread(ready)
        else:
            ready()

    def __del__(self) -> None:
        if not self._callback._is_dormant:
            return
        skip = functools.partial(self._exchange.skip_dormant, self._callback)
        try:
            if _is_dropped_by_django(sys._getframe().f_back):
                skip()
            else:
                # The garbage collector runs in the middle of anything, which may
                # hold locks: ours, or those of the user's instruments.
                gevent.start_thread(skip)
        except Exception:  # the interpreter is at its end
            pass


def _is_dropped_by_django(frame: FrameType | None) -> bool:
    """Whether ``rollback()``, ``savepoint_rollback()`` or ``close()`` has just done it."""
    return frame is not None and frame.f_globals.get("__name__") == "django.db.backends.base.base"
