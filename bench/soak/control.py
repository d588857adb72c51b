"""What the client may ask the app of ``soak``: its books, its rest, and what it keeps alive."""

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Any, Protocol

from async_after import get_runner

from . import census
from .ledger import ledger

DEADLINE = 60.0
"""Seconds in which all callbacks must have ended when nothing more comes."""


KEEP_ALIVE = 1
"""uvicorn's keep-alive timers hold the context of the last request until they are due."""


class Outside(Protocol):
    """What counts the exchanges (``app.py``)."""

    def exchange_books(self) -> dict[str, Any]: ...

    async def settle(self) -> None: ...


async def answer(name: str, outside: Outside) -> Mapping[str, Any]:
    match name:
        case "sweep":
            return {
                "unsettled": ledger.sweep(),
                "overdue": get_runner().statistics().overdue,
                "waiting": ledger.waiting(),
                **outside.exchange_books(),
            }
        case "settle":
            await outside.settle()
            await get_runner().drain(DEADLINE)
            await asyncio.sleep(KEEP_ALIVE + 0.5)
            return {"unsettled": ledger.sweep()}
        case "books":
            return books(outside)
        case "census":
            return census.take()
        case "watch":
            return census.watch()
        case "garbage":
            return census.garbage()
    raise ValueError(f"no {name} here")


def books(outside: Outside, *, is_last: bool = False) -> dict[str, Any]:
    ledger.sweep(is_last=is_last)
    statistics = get_runner().statistics()
    return {
        **ledger.told(),
        **outside.exchange_books(),
        "statistics": {**asdict(statistics), "registered": statistics.registered},
        "rows": _rows(),
    }


def _rows() -> int:
    """In the database, which the callbacks wrote."""
    from django.conf import settings

    with closing(sqlite3.connect(settings.DATABASES["default"]["NAME"])) as connection:
        row = connection.execute("SELECT count(*) FROM django_session").fetchone()
    return int(row[0])
