"""The callbacks. Each is called with the name of its request, and returns JSON."""

import asyncio
import threading
from itertools import count
from typing import Any

from asgiref.sync import sync_to_async
from django.core.cache import cache, caches
from django.db import OperationalError, connection, transaction
from django.db.backends.signals import connection_created

from .models import Row

DEADLINE = 10.0

Result = dict[str, Any]

_numbers = count(1)


def _number(connection: Any, **kwargs: Any) -> None:
    connection.number = next(_numbers)


connection_created.connect(_number)


def _session() -> int:
    """Which session of the database this is: PostgreSQL's, or the how manieth connection."""
    raw: Any = connection.connection
    # Any: an attribute of ours.
    numbered: Any = connection
    number: int = raw.info.backend_pid if connection.vendor == "postgresql" else numbered.number
    return number


def look(ident: str) -> Result:
    """Use the database as anybody does."""
    rows = Row.objects.count()
    return {
        "rows": rows,
        "session": _session(),
        "thread": threading.get_ident(),
        "thread_name": threading.current_thread().name,
        "autocommit": connection.get_autocommit(),
        "is_in_atomic": connection.in_atomic_block,
    }


async def alook(ident: str) -> Result:
    """The same three times; tells how many threads and sessions it saw."""
    await Row.objects.acount()
    found = [await sync_to_async(look)(ident) for _ in range(2)]
    await Row.objects.filter(text=ident).afirst()
    found.append(await sync_to_async(look)(ident))
    return {
        **found[-1],
        "threads": len({look["thread"] for look in found}),
        "sessions": len({look["session"] for look in found}),
    }


async def alook_by_tasks(ident: str) -> Result:
    """The same by several tasks of one callback at once."""
    found = await asyncio.gather(*(sync_to_async(look)(ident) for _ in range(4)))
    return {
        **found[-1],
        "threads": len({look["thread"] for look in found}),
        "sessions": len({look["session"] for look in found}),
    }


# Two callbacks at the same time.

_meeting = threading.Barrier(2)


def meet(ident: str) -> Result:
    found = look(ident)
    _meeting.wait(DEADLINE)
    return found


async def ameet(ident: str) -> Result:
    found = await alook(ident)
    # Not in the callback's own thread.
    await asyncio.to_thread(_meeting.wait, DEADLINE)
    return found


def meet_with_cache(ident: str) -> Result:
    cache.set(ident, "here")
    before: Any = caches["default"]
    _meeting.wait(DEADLINE)
    after: Any = caches["default"]
    # Nobody may have closed it meanwhile, nor made another one of it.
    _meeting.wait(DEADLINE)
    return {"client": before.number, "is_same": before is after, "closed": after.closed}


async def ameet_with_cache(ident: str) -> Result:
    await cache.aset(ident, "here")
    before: Any = caches["default"]
    await asyncio.to_thread(_meeting.wait, DEADLINE)
    after: Any = await sync_to_async(caches.__getitem__)("default")
    await asyncio.to_thread(_meeting.wait, DEADLINE)
    return {"client": before.number, "is_same": before is after, "closed": after.closed}


def use_cache(ident: str) -> None:
    cache.set(ident, "here")


def fail_with_cache(ident: str) -> None:
    use_cache(ident)
    raise LookupError("with a cache client in use")


async def afail_with_cache(ident: str) -> None:
    await cache.aset(ident, "here")
    raise LookupError("with a cache client in use")


# An async callback in whose thread others run meanwhile.

_has_begun = threading.Event()
_may_go_on = threading.Event()


async def iterate(ident: str) -> Result:
    """Fetch row by row, which is one call of the thread for each."""
    number = 0
    async for _ in Row.objects.order_by("pk").aiterator(chunk_size=1):
        if not number:
            await _wait_for_others()
        number += 1
    return {"rows": number}


async def _wait_for_others() -> None:
    _has_begun.set()
    # Not in the callback's own thread.
    assert await asyncio.to_thread(_may_go_on.wait, DEADLINE)
    _may_go_on.clear()


async def has_begun(ident: str) -> None:
    assert await asyncio.to_thread(_has_begun.wait, DEADLINE)
    _has_begun.clear()


async def go_on(ident: str) -> None:
    _may_go_on.set()


# What goes wrong.


def be_killed(ident: str) -> None:
    """Lose the session in the middle of its use."""
    Row.objects.count()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


async def abe_killed(ident: str) -> None:
    await sync_to_async(be_killed)(ident)


def be_killed_quietly(ident: str) -> None:
    try:
        be_killed(ident)
    except OperationalError:
        pass


def look_in_atomic(ident: str) -> Result:
    with transaction.atomic():
        return look(ident)


async def alook_in_atomic(ident: str) -> Result:
    return await sync_to_async(look_in_atomic)(ident)


def insert(ident: str) -> Result:
    with transaction.atomic():
        Row.objects.create(text=ident)
        return look(ident)


def insert_another(ident: str) -> Result:
    return insert(f"another {ident}")


async def ainsert(ident: str) -> Result:
    return await sync_to_async(insert)(ident)


def leave_transaction(ident: str) -> Result:
    """Leave a transaction open, with something in it."""
    transaction.set_autocommit(False)
    Row.objects.create(text=ident)
    return look(ident)


async def aleave_transaction(ident: str) -> Result:
    return await sync_to_async(leave_transaction)(ident)


def raise_in_atomic(ident: str) -> None:
    with transaction.atomic():
        Row.objects.create(text=ident)
        raise LookupError("in the middle of a transaction")


async def araise_in_atomic(ident: str) -> None:
    await sync_to_async(raise_in_atomic)(ident)


def break_transaction(ident: str) -> None:
    """The database refuses something, and with it the whole transaction."""
    with transaction.atomic():
        Row.objects.create(text=ident)
        Row.objects.create(text=ident)


async def abreak_transaction(ident: str) -> None:
    await sync_to_async(break_transaction)(ident)
