"""Views that the recipes' own have no need of: they wait for the test."""

import time
from collections.abc import AsyncIterator, Iterator

from django.core.cache import cache
from django.core.handlers.asgi import ASGIRequest
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path

from asgi_demo.recipes.delivered import LogSuccessResponse, LogSuccessStream
from asgi_demo.recipes.rate_limit import rate_limit
from tests.servers.events import record
from tests.servers.gates import Gate

from .names import ALWAYS, LIMIT

PART = bytes(2**16)


def timed(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse(str(number))


def missing_key(request: HttpRequest, number: int) -> HttpResponse:
    numbers: dict[int, str] = {}
    return HttpResponse(numbers[number])


def gated_sync(request: HttpRequest, ident: str) -> HttpResponse:
    """Tells how long it took itself."""
    begun = time.perf_counter()
    record("in view", ident)
    Gate(ident).wait_in_thread()
    return HttpResponse(str(time.perf_counter() - begun))


async def gated_async(request: HttpRequest, ident: str) -> HttpResponse:
    begun = time.perf_counter()
    record("in view", ident)
    await Gate(ident).wait()
    return HttpResponse(str(time.perf_counter() - begun))


def gated_stream(request: HttpRequest, ident: str) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        yield b"first"
        Gate(ident).wait_in_thread()
        yield b"last"

    async def aparts() -> AsyncIterator[bytes]:
        yield b"first"
        await Gate(ident).wait()
        yield b"last"

    return StreamingHttpResponse(aparts() if isinstance(request, ASGIRequest) else parts())


def big(request: HttpRequest) -> HttpResponse:
    """64 MB: more than all the buffers between server and client hold."""
    return LogSuccessResponse(PART * 1024)


def long_stream(request: HttpRequest) -> HttpResponseBase:
    """The same in parts."""
    return LogSuccessStream(_aparts() if isinstance(request, ASGIRequest) else _parts())


def endless_stream(request: HttpRequest) -> HttpResponseBase:
    """One that only ends when the server says that the client has gone."""

    async def aparts() -> AsyncIterator[bytes]:
        yield PART
        await Gate("never").wait()

    return LogSuccessStream(aparts() if isinstance(request, ASGIRequest) else _parts())


def _parts() -> Iterator[bytes]:
    for _ in range(1024):
        yield PART


async def _aparts() -> AsyncIterator[bytes]:
    for part in _parts():
        yield part


@rate_limit(LIMIT, ALWAYS)
def limited_sync(request: HttpRequest) -> HttpResponse:
    return HttpResponse("within the limit")


@rate_limit(LIMIT, ALWAYS)
async def limited_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse("within the limit")


def cached(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"value": cache.get(request.GET["key"])})


urlpatterns = [
    path("timed/<int:number>", timed),
    path("missing-key/<int:number>", missing_key),
    path("gated-sync/<ident>", gated_sync),
    path("gated-async/<ident>", gated_async),
    path("gated-stream/<ident>", gated_stream),
    path("big", big),
    path("long-stream", long_stream),
    path("endless-stream", endless_stream),
    path("limited-sync", limited_sync),
    path("limited-async", limited_async),
    path("cached", cached),
]
