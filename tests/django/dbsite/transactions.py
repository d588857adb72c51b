"""Transactions in which callbacks are registered with ``on_commit``, each in a way of its own.

They are called with the name of the request, in the thread of the connection.
A row's text is "<name of the request> <what it is>".
"""

from collections.abc import Callable
from itertools import count
from typing import Any

from asgiref.sync import sync_to_async
from django.db import Error, connection, connections, transaction

from async_after import Outcome, after_response

from .models import Note, Row
from .views import registered

_numbers = count(1)
_sessions: dict[str, int | None] = {}


class RollBackError(Exception):
    """Leaves a block, so that what was done in it is undone."""


# The callbacks: what they see, and which one came first.


def see(ident: str, name: str = "", using: str = "default") -> dict[str, Any]:
    rows = Row.objects.using(using).filter(text__startswith=f"{ident} ")
    return {
        "name": name,
        "number": next(_numbers),
        "rows": sorted(row.text.partition(" ")[2] for row in rows),
        "autocommit": connections[using].get_autocommit(),
        "session": _session(using),
        "session_of_view": _sessions.get(ident),
    }


async def asee(ident: str, name: str = "") -> dict[str, Any]:
    await Row.objects.acount()
    return await sync_to_async(see)(ident, name)


def see_outcome(outcome: Outcome, ident: str, name: str = "") -> dict[str, Any]:
    return {**see(ident, name), "status": outcome.status, "completion": outcome.completion.name}


def _session(using: str = "default") -> int | None:
    """PostgreSQL's; SQLite has none."""
    raw: Any = connections[using].connection
    return raw.info.backend_pid if connections[using].vendor == "postgresql" else None


def insert(ident: str, what: str, using: str = "default") -> None:
    Row.objects.using(using).create(text=f"{ident} {what}")
    _sessions[ident] = _session(using)


def register(ident: str, name: str, func: Callable[..., Any] = see, **options: Any) -> None:
    options = {"on_commit": True, **options}
    registered[ident].append(after_response.using(**options)(func, ident, name))


# What happens around the registrations.


def committed(ident: str) -> None:
    with transaction.atomic():
        insert(ident, "row")
        register(ident, "sync")
        register(ident, "async", asee)


def rolled_back(ident: str) -> None:
    try:
        with transaction.atomic():
            insert(ident, "row")
            register(ident, "sync")
            register(ident, "async", asee)
            raise RollBackError
    except RollBackError:
        pass


def marked_for_rollback(ident: str) -> None:
    with transaction.atomic():
        insert(ident, "row")
        register(ident, "before")
        transaction.set_rollback(True)
        register(ident, "after")


def savepoint_rolled_back(ident: str) -> None:
    with transaction.atomic():
        insert(ident, "outer")
        register(ident, "before")
        try:
            with transaction.atomic():
                insert(ident, "inner")
                register(ident, "inside")
                raise RollBackError
        except RollBackError:
            pass
        register(ident, "behind")


def nested(ident: str) -> None:
    """A released savepoint in one that is rolled back, and one that is not."""
    with transaction.atomic():
        insert(ident, "1")
        try:
            with transaction.atomic():
                insert(ident, "2")
                with transaction.atomic():
                    register(ident, "released in a rolled back one")
                raise RollBackError
        except RollBackError:
            pass
        with transaction.atomic(), transaction.atomic():
            insert(ident, "3")
            register(ident, "released")


def savepoint_by_hand(ident: str) -> None:
    with transaction.atomic():
        insert(ident, "outer")
        savepoint = transaction.savepoint()
        insert(ident, "inner")
        register(ident, "inside")
        transaction.savepoint_rollback(savepoint)


def without_savepoint(ident: str) -> None:
    """An error inside of a block that has none ends the whole transaction."""
    try:
        with transaction.atomic():
            insert(ident, "row")
            register(ident, "outer")
            try:
                with transaction.atomic(savepoint=False):
                    register(ident, "inner")
                    raise RollBackError
            except RollBackError:
                pass
    except transaction.TransactionManagementError:
        pass


def refused_at_commit(ident: str) -> None:
    """By a constraint that is deferred: the block ends well, and COMMIT fails."""
    try:
        with transaction.atomic():
            insert(ident, "row")
            Note.objects.create(row_id=-1)
            register(ident, "never")
    except Error:
        pass


def without_transaction(ident: str) -> None:
    insert(ident, "row")
    register(ident, "at once")


def in_line(ident: str) -> None:
    """Ready by the response: each has its place."""
    register(ident, "1", on_commit=False)
    with transaction.atomic():
        insert(ident, "row")
        register(ident, "2")
        register(ident, "3", on_commit=False)
        with transaction.atomic():
            register(ident, "4", asee)
        register(ident, "5", asee, on_commit=False)
    register(ident, "6", see_outcome, takes_outcome=True)


def in_other(ident: str) -> None:
    """Of two databases only one has a transaction, and then only the other."""
    with transaction.atomic(using="other"):
        insert(ident, "other", "other")
        register(ident, "default")
        _see_other(ident)
    try:
        with transaction.atomic(using="other"), transaction.atomic():
            insert(ident, "default")
            _see_other(ident)
            register(ident, "default, rolled back")
            raise RollBackError
    except RollBackError:
        pass
    try:
        with transaction.atomic():
            _see_other(ident)
            raise RollBackError
    except RollBackError:
        pass


def _see_other(ident: str) -> None:
    registrar = after_response.using(on_commit="other")
    registered[ident].append(registrar(see, ident, "other", using="other"))


def with_key(ident: str) -> None:
    with transaction.atomic():
        insert(ident, "row")
        register(ident, "first", key="k")
        register(ident, "second", key="k")


def cancelled(ident: str) -> None:
    with transaction.atomic():
        insert(ident, "row")
        register(ident, "cancelled")
        assert registered[ident][-1].cancel()


def with_when(ident: str) -> None:
    with transaction.atomic():
        insert(ident, "row")
        register(ident, "success", when="success")
        register(ident, "error", when="error")
        register(ident, "predicate", when=lambda outcome: outcome.status == 200)
        register(ident, "concurrent", concurrent=True)


def closed(ident: str) -> None:
    """The connection is closed in the middle of the transaction."""
    with transaction.atomic():
        insert(ident, "row")
        register(ident, "before")
        connection.close()
        register(ident, "behind")


def killed(ident: str) -> None:
    """The server of the database ends the session."""
    try:
        with transaction.atomic():
            insert(ident, "row")
            register(ident, "never")
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    except Error:
        pass


def by_hand(ident: str) -> None:
    transaction.set_autocommit(False)
    try:
        register(ident, "never")
    finally:
        transaction.set_autocommit(True)


def atomic_by_hand(ident: str) -> None:
    """Inside of ``atomic`` there are hooks; the commit is the user's own."""
    transaction.set_autocommit(False)
    try:
        with transaction.atomic():
            insert(ident, "row")
            register(ident, "committed")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)


def of_nowhere(ident: str) -> None:
    register(ident, "never", on_commit="nowhere")


def behind_a_bad_hook(ident: str) -> None:
    """Django runs no hook behind one that raises, if that is not robust."""
    with transaction.atomic():
        insert(ident, "row")
        register(ident, "before")
        transaction.on_commit(_raise)
        register(ident, "behind")


def _raise() -> None:
    raise RollBackError("a hook of the user's")


def in_callback(ident: str) -> None:
    """The transaction is the callback's own."""
    for name in ("sync", "async"):
        register(ident, name, _commit if name == "sync" else _acommit, on_commit=False)


def _commit(ident: str, name: str) -> dict[str, Any]:
    with transaction.atomic():
        insert(ident, name)
        register(ident, f"{name} committed")
        with transaction.atomic():
            register(ident, f"{name} rolled back")
            transaction.set_rollback(True)
    return see(ident, name)


async def _acommit(ident: str, name: str) -> dict[str, Any]:
    return await sync_to_async(_commit)(ident, name)


def left_open_in_callback(ident: str) -> None:
    register(ident, "sync", _leave_open, on_commit=False)
    register(ident, "async", _aleave_open, on_commit=False)


def _leave_open(ident: str, name: str) -> dict[str, Any]:
    found = see(ident, name)
    transaction.atomic().__enter__()
    insert(ident, name)
    register(ident, f"{name} never")
    return found


async def _aleave_open(ident: str, name: str) -> dict[str, Any]:
    return await sync_to_async(_leave_open)(ident, name)


def left_open(ident: str) -> None:
    """Nobody ends it: the thread, or the request, is over."""
    transaction.atomic().__enter__()
    insert(ident, "row")
    register(ident, "never")
