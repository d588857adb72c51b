"""Each view registers the callbacks that its query string wants (see ``work``)."""

import asyncio
from collections.abc import AsyncIterator

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from async_after import after_response

from .. import work
from ..events import record
from ..gates import Gate

BODY = b"The body of the response.\n"


def response_to(request: HttpRequest, ident: str) -> HttpResponseBase:
    """``framing``: ``length`` (Content-Length, the default), ``chunked`` (one
    message), ``stream`` (several) or ``counted`` (several, with Content-Length);
    ``status``."""
    framing = request.GET.get("framing", "length")
    status = int(request.GET.get("status", "200"))
    if framing in ("stream", "counted"):
        headers = {"Content-Length": str(len(BODY))} if framing == "counted" else {}
        return StreamingHttpResponse(_chunks(), status=status, headers=headers)
    response = HttpResponse(b"" if status == 204 else BODY, status=status)
    if framing == "length" and status != 204:
        response["Content-Length"] = str(len(response.content))
    if "etag" in request.GET:
        response["ETag"] = '"fixed"'
    if "close" in request.GET:
        response["Connection"] = "close"
    return response


async def _chunks() -> AsyncIterator[bytes]:
    for byte in BODY:
        yield bytes([byte])
        await asyncio.sleep(0)


async def async_view(request: HttpRequest, ident: str) -> HttpResponseBase:
    await work.Wanted.by(ident, request.GET).aregister()
    return response_to(request, ident)


def sync_view(request: HttpRequest, ident: str) -> HttpResponseBase:
    work.Wanted.by(ident, request.GET).register()
    return response_to(request, ident)


async def async_raises(request: HttpRequest, ident: str) -> HttpResponse:
    await work.Wanted.by(ident, request.GET).aregister()
    raise RuntimeError("this view always raises")


def sync_raises(request: HttpRequest, ident: str) -> HttpResponse:
    work.Wanted.by(ident, request.GET).register()
    raise RuntimeError("this view always raises")


def missing(request: HttpRequest, ident: str) -> HttpResponse:
    work.Wanted.by(ident, request.GET).register()
    raise Http404


PART = bytes(2**20)


async def big(request: HttpRequest, ident: str) -> StreamingHttpResponse:
    """More than all the buffers between server and client hold; ``endless``:
    and nothing more until the client has gone."""
    await work.Wanted.by(ident, request.GET).aregister()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(int(request.GET["parts"])):
            yield PART
        if "endless" in request.GET:
            await Gate(f"never-{ident}").wait()

    return StreamingHttpResponse(parts())


async def endless(request: HttpRequest, ident: str) -> StreamingHttpResponse:
    """One chunk, and nothing more until the client has gone."""
    await work.Wanted.by(ident, request.GET).aregister()

    async def chunks() -> AsyncIterator[bytes]:
        yield BODY
        await Gate(f"never-{ident}").wait()
        yield b"too late"

    return StreamingHttpResponse(chunks())


async def breaks(request: HttpRequest, ident: str) -> StreamingHttpResponse:
    """A stream that raises half way."""
    await work.Wanted.by(ident, request.GET).aregister()

    async def chunks() -> AsyncIterator[bytes]:
        yield BODY
        raise RuntimeError("this stream always breaks")

    return StreamingHttpResponse(chunks())


async def slow_async(request: HttpRequest, ident: str) -> HttpResponse:
    """Waits in the view, after registering, until the client has gone."""
    await work.Wanted.by(ident, request.GET).aregister()
    record("in view", ident)
    await Gate(f"never-{ident}").wait()
    return HttpResponse("too late")


def slow_sync(request: HttpRequest, ident: str) -> HttpResponse:
    """Registers only after the client has gone: the thread runs on."""
    record("in view", ident)
    Gate(f"view-{ident}").wait_in_thread()
    work.Wanted.by(ident, request.GET).register()
    return HttpResponse("too late")


async def callback_fails(request: HttpRequest, ident: str) -> HttpResponse:
    after_response(_fail)
    await work.Wanted.by(ident, request.GET).aregister()
    return HttpResponse(BODY)


async def _fail() -> None:
    await asyncio.sleep(0)
    raise RuntimeError("this callback always fails")
