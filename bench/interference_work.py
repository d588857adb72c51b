"""The callbacks of ``interference``, in whichever process they run; and how many have ended."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.db import connection

DIRECTORY = "INTERFERENCE_DIRECTORY"
"""The environment variable that names where the ledger and the database are."""
BROKER = "INTERFERENCE_BROKER"
"""The one with the URL of the queue's broker, if there is a queue."""
SLEEP = 0.1
CPU = 0.005
"""Seconds of CPU, however long it takes to get them."""

_ledger = -1


def configure(urls: str) -> None:
    """Django with one table; connections stay open, as in production."""
    global _ledger
    directory = Path(os.environ[DIRECTORY])
    _ledger = os.open(directory / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    database = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(directory / "db.sqlite3"),
        "CONN_MAX_AGE": None,
        # https://docs.djangoproject.com/en/stable/ref/databases/#database-is-locked-errors
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": database},
        ROOT_URLCONF=urls,
        SECRET_KEY="bench",
        USE_TZ=True,
    )
    django.setup()


def create_table() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)")
    connection.close()


def _note() -> None:
    os.write(_ledger, b".")


def ended(directory: Path) -> int:
    """How many callbacks have ended, in all processes."""
    return (directory / "ledger").stat().st_size


async def async_sleep() -> None:
    await asyncio.sleep(SLEEP)
    _note()


def sync_sleep() -> None:
    time.sleep(SLEEP)
    _note()


def sync_cpu() -> None:
    until = time.thread_time() + CPU
    while time.thread_time() < until:
        for _ in range(100):
            pass
    _note()


def write() -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO notes (text) VALUES (%s)", ["receipt " * 20])
    _note()


FUNCTIONS: dict[str, Callable[[], Any]] = {
    "async": async_sleep,
    "sync": sync_sleep,
    "cpu": sync_cpu,
    "write": write,
}
"""By their names in paths."""
