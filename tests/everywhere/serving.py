"""What the views share: how they are found, and what the test is told of them."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import (
    HttpRequest,
    HttpResponseBase,
    JsonResponse,
)
from django.utils.decorators import sync_and_async_middleware
from django.utils.functional import SimpleLazyObject

from . import work

BODY = "Après la réponse.\n".encode()
FILE = b"0123456789abcdef" * 20_000
PARTS = [b"one ", b"two ", b"three"]

View = Callable[[HttpRequest, str], HttpResponseBase]
AsyncView = Callable[[HttpRequest, str], Coroutine[Any, Any, HttpResponseBase]]

SERVED: dict[str, tuple[View, AsyncView]] = {}
"""By name: the view that is a plain function, and the one that is a coroutine function."""


def both(view: View) -> View:
    """This plain view, and the same as a coroutine function: ``after_response``
    does not care."""

    @wraps(view)
    async def aview(request: HttpRequest, ident: str) -> HttpResponseBase:
        await asyncio.sleep(0)
        return view(request, ident)

    SERVED[view.__name__] = view, aview
    return view


def pair(view: View, aview: AsyncView) -> None:
    SERVED[view.__name__] = view, aview


def told(request: HttpRequest, ident: str) -> JsonResponse:
    """What a test wants to know of another request."""
    # The callbacks first: their notes are older than their ends.
    callbacks = [work.told(callback) for callback in work.callbacks[ident]]
    return JsonResponse(
        {"callbacks": callbacks, "notes": work.notes[ident], "process": os.getpid()}
    )


class User:
    def __init__(self, name: str) -> None:
        self.name = name


@sync_and_async_middleware
def name_user(get_response: Any) -> Any:
    """Like Django's authentication: who it is is found out when somebody asks."""

    def name(request: Any) -> None:
        request.user = SimpleLazyObject(lambda: User(request.headers.get("X-User", "nobody")))

    if iscoroutinefunction(get_response):

        async def amiddleware(request: HttpRequest) -> Any:
            name(request)
            return await get_response(request)

        return amiddleware

    def middleware(request: HttpRequest) -> Any:
        name(request)
        return get_response(request)

    return middleware
