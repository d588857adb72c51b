"""What the tests of overload ask for: a mixed bag of callbacks, and looks inside."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.http import StreamingHttpResponse as Stream

from async_after import Outcome, after_response, get_runner

from .. import work
from ..events import record

BODY = b"The body of the response.\n"
PART = b"." * 65_536
PARTS = 32
"""More than what fits into the buffers of a connection that nobody reads."""

MIXED = 8
"""How many callbacks a request for a mixed bag registers."""


async def plain_async(request: HttpRequest, ident: str) -> HttpResponse:
    return HttpResponse(BODY)


def plain_sync(request: HttpRequest, ident: str) -> HttpResponse:
    return HttpResponse(BODY)


_COUNTERS = (
    *("open_exchanges", "pending", "running", "overdue"),
    *("succeeded", "failed", "timed_out", "cancelled", "skipped", "dropped", "registered"),
)


async def statistics(request: HttpRequest, ident: str) -> HttpResponse:
    counted = get_runner().statistics()
    return JsonResponse({name: getattr(counted, name) for name in _COUNTERS})


async def threads(request: HttpRequest, ident: str) -> HttpResponse:
    return JsonResponse([thread.name for thread in threading.enumerate()], safe=False)


# A mixed bag.


async def mixed_async(request: HttpRequest, ident: str) -> HttpResponseBase:
    await asyncio.sleep(float(request.GET.get("view", "0")))
    return _mixed(request, ident)


def mixed_sync(request: HttpRequest, ident: str) -> HttpResponseBase:
    time.sleep(float(request.GET.get("view", "0")))
    return _mixed(request, ident)


def _mixed(request: HttpRequest, ident: str) -> HttpResponseBase:
    for number, (options, function) in enumerate(_bag()):
        after_response.using(**options)(function, ident, number, request.GET.get("delay", "0"))
    record("registered", ident, number=MIXED)
    match request.GET.get("framing"):
        case "stream":
            return Stream(_parts(BODY, 8))
        case "big":
            return Stream(_parts(PART, PARTS))
        case "error":
            raise RuntimeError("this view always raises")
    return HttpResponse(BODY)


async def _parts(part: bytes, number: int) -> AsyncIterator[bytes]:
    for _ in range(number):
        yield part
        await asyncio.sleep(0)


def _bag() -> Iterator[tuple[dict[str, Any], Callable[..., Any]]]:
    yield {"takes_outcome": True}, _tell_outcome
    yield {}, _in_thread
    yield {"concurrent": True}, _on_loop
    # Of these three exactly one runs.
    yield {"when": "success"}, _on_loop
    yield {"when": "disconnect"}, _in_thread
    yield {"when": "error"}, _on_loop
    # The second one replaces the first.
    yield {"key": "mixed"}, _in_thread
    yield {"key": "mixed"}, _on_loop


async def _tell_outcome(outcome: Outcome, ident: str, number: int, delay: str) -> None:
    record("outcome", ident, **work.fields(outcome))
    await asyncio.sleep(float(delay))
    record("end", ident, n=number)
    if ident.endswith("7"):
        raise RuntimeError("this callback always fails")


def _in_thread(ident: str, number: int, delay: str) -> None:
    time.sleep(float(delay))
    record("end", ident, n=number)


async def _on_loop(ident: str, number: int, delay: str) -> None:
    await asyncio.sleep(float(delay))
    record("end", ident, n=number)


# The blocked loop.


async def freezes(request: HttpRequest, ident: str) -> HttpResponse:
    """Its callback blocks, although it is ``async def``. ``lane``: where it runs."""
    lane: Any = request.GET.get("lane")
    after_response.using(lane=lane)(freeze, ident)
    return HttpResponse(BODY)


async def freeze(ident: str) -> None:
    record("freeze", ident)
    time.sleep(1)  # noqa: ASYNC251
    record("end", ident)
