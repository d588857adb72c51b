"""Views with a ``then``, and receivers of the signal. All tell the test (``events``)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from async_after import Outcome
from async_after.django import (
    FileResponseThen,
    HttpResponseThen,
    JsonResponseThen,
    StreamingHttpResponseThen,
    ThenMixin,
    response_finished,
    then,
)
from tests.servers.events import ident_of, record
from tests.servers.gates import Gate

PART = b"." * 65_536


def told(ident: str) -> Callable[[], None]:
    return partial(record, "then", ident)


def plain(request: HttpRequest, ident: str) -> HttpResponseBase:
    return HttpResponseThen(b"plain", then=told(ident))


async def aplain(request: HttpRequest, ident: str) -> HttpResponseBase:
    async def tell() -> None:
        await asyncio.sleep(0)
        told(ident)()

    return HttpResponseThen(b"aplain", then=tell)


def json(request: HttpRequest, ident: str) -> HttpResponseBase:
    return JsonResponseThen({"json": True}, then=told(ident))


def function(request: HttpRequest, ident: str) -> HttpResponse:
    return then(HttpResponse(b"function"), record, "then", ident)


def file(request: HttpRequest, ident: str) -> HttpResponseBase:
    return FileResponseThen(Path(__file__).open("rb"), then=told(ident))


def stream(request: HttpRequest, ident: str) -> HttpResponseBase:
    """``parts`` of 64 KB, a little slower than a server needs to hear of the client."""

    def parts() -> Iterator[bytes]:
        for _ in range(int(request.GET.get("parts", 2))):
            yield PART
            time.sleep(0.002)

    return StreamingHttpResponseThen(parts(), then=told(ident))


def astream(request: HttpRequest, ident: str) -> HttpResponseBase:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(int(request.GET.get("parts", 2))):
            yield PART
            await asyncio.sleep(0.002)

    return StreamingHttpResponseThen(parts(), then=told(ident))


def raises(request: HttpRequest, ident: str) -> HttpResponseBase:
    HttpResponseThen(b"never sent", then=told(ident))
    raise LookupError("this view always raises")


async def slow(request: HttpRequest, ident: str) -> HttpResponseBase:
    record("in view", ident)
    await Gate(f"never-{ident}").wait()
    return HttpResponseThen(b"too late", then=told(ident))


class ResponseThen(ThenMixin, Response):
    pass


class Rest(APIView):
    def get(self, request: Request, ident: str) -> Response:
        return ResponseThen({"rest": True}, status=202, then=told(ident))


# The signal.


def _tell(
    event: str, request: HttpRequest, response: HttpResponseBase | None, outcome: Outcome
) -> None:
    record(
        event,
        ident_of(request.path),
        response=None if response is None else type(response).__name__,
        completion=outcome.completion.name,
        status=outcome.status,
        error=type(outcome.error).__name__,
    )


@receiver(response_finished)
def hear(request: HttpRequest, response: Any, outcome: Outcome, **kwargs: Any) -> None:
    if "gated" in request.GET:
        record("gate", ident_of(request.path))
        Gate(ident_of(request.path)).wait_in_thread()
    _tell("heard", request, response, outcome)


@receiver(response_finished)
async def ahear(request: HttpRequest, response: Any, outcome: Outcome, **kwargs: Any) -> None:
    await asyncio.sleep(0)
    _tell("aheard", request, response, outcome)


@receiver(response_finished)
def fail(request: HttpRequest, **kwargs: Any) -> None:
    if "fail" in request.GET:
        raise LookupError("this receiver always fails")
