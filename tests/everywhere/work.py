"""The callbacks, and what the test hears of them: notes, in order, by request."""

import asyncio
import threading
from collections import defaultdict
from contextvars import ContextVar
from typing import Any, TypeVar

from django.http import HttpRequest
from django.utils import translation

from async_after import Callback, CallbackState, Outcome

from .models import Row

DEADLINE = 10.0

R = TypeVar("R")

notes: dict[str, list[Any]] = defaultdict(list)
callbacks: dict[str, list[Callback[Any]]] = defaultdict(list)


def keep(ident: str, callback: Callback[R]) -> Callback[R]:
    """Of a request whose callbacks the test asks for."""
    callbacks[ident].append(callback)
    return callback


def told(callback: Callback[Any]) -> dict[str, Any]:
    state = callback.state
    return {
        "is_done": callback.done(),
        "state": state.name,
        "result": callback.result() if state is CallbackState.SUCCEEDED else None,
        "error": repr(callback.exception()) if state is CallbackState.FAILED else None,
    }


def note(ident: str, what: object) -> object:
    notes[ident].append(what)
    return what


async def anote(ident: str, what: object) -> object:
    """Really suspends: one that never does hides cancellations."""
    await asyncio.sleep(0)
    return note(ident, what)


BOTH: list[Any] = [note, anote]
"""By turns, they show that order does not depend on the kind of callable."""


def see(outcome: Outcome, ident: str) -> None:
    error = outcome.error
    note(
        ident,
        {
            "completion": outcome.completion.name,
            "status": outcome.status,
            "body_bytes": outcome.body_bytes,
            "error": None if error is None else type(error).__name__,
            "is_success": outcome.is_success,
            "method": outcome.method,
            "path": outcome.path,
            "type": dict(outcome.headers).get("content-type"),
        },
    )


async def asee(outcome: Outcome, ident: str) -> None:
    await asyncio.sleep(0)
    see(outcome, ident)


def fail(ident: str) -> None:
    raise LookupError(f"the plain one of {ident}")


async def afail(ident: str) -> None:
    await asyncio.sleep(0)
    raise LookupError(f"the async one of {ident}")


async def never_end(ident: str) -> None:
    await asyncio.Event().wait()


# Context.

variable: ContextVar[str] = ContextVar("variable", default="not set")


def look_around(ident: str) -> None:
    """Language and context variable; what it sets itself nobody else may see."""
    language = translation.get_language()
    note(ident, [language, translation.gettext("Monday"), variable.get()])
    variable.set("of a callback")
    translation.activate("de")


async def alook_around(ident: str) -> None:
    await asyncio.sleep(0)
    look_around(ident)


def greet(ident: str, request: HttpRequest) -> None:
    # Any: a name_user() of ours has set it.
    user: Any = request.user
    note(ident, user.name)


async def agreet(ident: str, request: HttpRequest) -> None:
    await asyncio.sleep(0)
    greet(ident, request)


# Database.


def write(ident: str) -> int:
    Row.objects.create(text=ident)
    return Row.objects.filter(text=ident).count()


async def awrite(ident: str) -> int:
    await Row.objects.acreate(text=ident)
    return await Row.objects.filter(text=ident).acount()


# Concurrent ones.


class Meeting:
    """Of two callbacks that each wait for the other."""

    def __init__(self) -> None:
        self._here = [threading.Event(), threading.Event()]

    def join(self, number: int) -> None:
        self._here[number].set()
        if not self._here[1 - number].wait(DEADLINE):
            raise TimeoutError("the other one did not come")

    async def ajoin(self, number: int) -> None:
        await asyncio.to_thread(self.join, number)
