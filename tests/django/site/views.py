"""Views that register what a test has put into ``todo``."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.cache import cache_page

from async_after import Callback, after_response

todo: list[Callable[..., object]] = []
registered: list[Callback[Any]] = []
"""What the views of this test have registered, in order."""
entered = threading.Event()
go_on = threading.Event()


def register(**options: Any) -> None:
    for func in todo:
        registered.append(after_response.using(**options)(func))


def sync_view(request: HttpRequest) -> HttpResponse:
    register()
    return HttpResponse("sync", headers={"X-View": "sync"})


async def async_view(request: HttpRequest) -> HttpResponse:
    register()
    return HttpResponse("async")


@cache_page(60)
def cached_view(request: HttpRequest) -> HttpResponse:
    register()
    return HttpResponse("cached")


def failing_view(request: HttpRequest) -> HttpResponse:
    register(takes_outcome=True)
    raise LookupError("this view fails")


def sync_stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        yield b"one"
        # Each step of the body runs inside the exchange.
        register(takes_outcome=True)
        yield b"two"

    return StreamingHttpResponse(parts())


def async_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        register(takes_outcome=True)
        entered.set()
        # In small steps, so that a server can see that its client is gone.
        while request.GET.get("wait") and not go_on.is_set():
            await asyncio.sleep(0.01)
        yield b"two"

    return StreamingHttpResponse(parts())


def broken_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        register(takes_outcome=True)
        yield b"one"
        raise LookupError("this stream breaks")

    def sync_parts() -> Iterator[bytes]:
        register(takes_outcome=True)
        yield b"one"
        raise LookupError("this stream breaks")

    return StreamingHttpResponse(sync_parts() if request.GET.get("sync") else parts())


def file_view(request: HttpRequest) -> FileResponse:
    register(takes_outcome=True)
    return FileResponse(io.BytesIO(b"x" * 100_000))


async def slow_view(request: HttpRequest) -> HttpResponse:
    register(takes_outcome=True)
    entered.set()
    while not go_on.is_set():
        await asyncio.sleep(0.01)
    return HttpResponse("slow")


def slow_sync_view(request: HttpRequest) -> HttpResponse:
    register(takes_outcome=True)
    entered.set()
    go_on.wait(10)
    return HttpResponse("slow")
