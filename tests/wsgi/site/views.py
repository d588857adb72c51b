"""Each view registers the callbacks that its query string wants (see ``servers.work``)."""

import os
import time
from collections.abc import Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
)

from async_after import after_response

from ...servers.events import VARIABLE, record
from ...servers.gates import Gate
from ...servers.work import Wanted
from .content import BODY, PART, file_path


def _register(request: HttpRequest, ident: str) -> None:
    record("view", ident)
    wanted: dict[str, Any] = {"kind": "sync", **request.GET.dict()}
    Wanted.by(ident, wanted).register()


def view(request: HttpRequest, ident: str) -> HttpResponseBase:
    """``framing``: ``length`` (Content-Length, the default), ``stream`` (without)
    or ``empty`` (204)."""
    _register(request, ident)
    match request.GET.get("framing", "length"):
        case "stream":
            return StreamingHttpResponse(_bytes_of(BODY))
        case "empty":
            return HttpResponse(status=204)
    return HttpResponse(BODY, headers={"Content-Length": str(len(BODY))})


def _bytes_of(body: bytes) -> Iterator[bytes]:
    for byte in body:
        yield bytes([byte])


def big(request: HttpRequest, ident: str) -> HttpResponseBase:
    """``parts`` of 64 KB, a little slower than a server needs to hear of the client."""
    _register(request, ident)

    def parts() -> Iterator[bytes]:
        for _ in range(int(request.GET["parts"])):
            yield PART
            time.sleep(0.002)

    return StreamingHttpResponse(parts())


def breaks(request: HttpRequest, ident: str) -> HttpResponseBase:
    """A stream that raises half way."""
    _register(request, ident)

    def parts() -> Iterator[bytes]:
        yield BODY
        raise RuntimeError("this stream always breaks")

    return StreamingHttpResponse(parts())


def raises(request: HttpRequest, ident: str) -> HttpResponseBase:
    _register(request, ident)
    raise RuntimeError("this view always raises")


def waits(request: HttpRequest, ident: str) -> HttpResponseBase:
    """Until the test opens the gate of this view; its response is longer than buffers are."""
    _register(request, ident)
    record("in view", ident)
    Gate(f"view-{ident}").wait_in_thread()
    return HttpResponse(PART * 8)


def file(request: HttpRequest, ident: str) -> HttpResponseBase:
    _register(request, ident)
    return FileResponse(file_path(os.environ[VARIABLE]).open("rb"))


def fails(request: HttpRequest, ident: str) -> HttpResponseBase:
    after_response(fail)
    _register(request, ident)
    return HttpResponse(BODY, headers={"Content-Length": str(len(BODY))})


def exits(request: HttpRequest, ident: str) -> HttpResponseBase:
    after_response(exit_process)
    _register(request, ident)
    return HttpResponse(BODY, headers={"Content-Length": str(len(BODY))})


def keeps(request: HttpRequest, ident: str) -> HttpResponseBase:
    """Its callback looks at the request when others have been answered."""
    after_response(tell_request, request, ident)
    _register(request, ident)
    return HttpResponse(BODY, headers={"Content-Length": str(len(BODY))})


def tell_request(request: HttpRequest, ident: str) -> None:
    record("start", ident)
    Gate(ident).wait_in_thread()
    record(
        "request",
        ident,
        path=request.META.get("PATH_INFO"),
        cookies=request.COOKIES,
        same=after_response.using(request=request)(tell_path, ident).state.name,
    )


def tell_path(ident: str) -> None:
    record("registered by request", ident)


def async_orm(request: HttpRequest, ident: str) -> HttpResponseBase:
    after_response(query, ident)
    _register(request, ident)
    return HttpResponse(BODY, headers={"Content-Length": str(len(BODY))})


async def query(ident: str) -> None:
    """What Django's async ORM does with its synchronous half."""
    number = await sync_to_async(_query)()
    record("queried", ident, number=number)


def _query() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 42")
        return cursor.fetchone()[0]


def fail() -> None:
    raise RuntimeError("this callback always fails")


def exit_process() -> None:
    raise SystemExit("this callback wants to end the process")
