"""Views with responses of all kinds. None knows how it is served."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from io import BytesIO

from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)

from async_after import aafter_response, after_response

from . import work
from .serving import BODY, FILE, PARTS, both, pair
from .work import anote, keep, note


def _respond(request: HttpRequest) -> HttpResponse:
    status = int(request.GET.get("status", "200"))
    return HttpResponse(b"" if status == 204 else BODY, status=status)


def _register_three(ident: str) -> None:
    keep(ident, after_response(note, ident, "plain"))
    keep(ident, after_response(anote, ident, "async"))
    keep(ident, after_response.using(takes_outcome=True)(work.see, ident))


async def _aregister_three(ident: str) -> None:
    keep(ident, await aafter_response(note, ident, "plain"))
    keep(ident, await aafter_response(anote, ident, "async"))
    keep(ident, await aafter_response.using(takes_outcome=True)(work.asee, ident))


def plain(request: HttpRequest, ident: str) -> HttpResponse:
    _register_three(ident)
    note(ident, "view")
    return _respond(request)


async def aplain(request: HttpRequest, ident: str) -> HttpResponse:
    await _aregister_three(ident)
    note(ident, "view")
    return _respond(request)


pair(plain, aplain)


@both
def streams(request: HttpRequest, ident: str) -> HttpResponseBase:
    """A plain generator that registers while it streams."""

    def parts() -> Iterator[bytes]:
        keep(ident, after_response(note, ident, "first"))
        for part in PARTS:
            yield part
            keep(ident, after_response(anote, ident, part.decode()))
        keep(ident, after_response.using(takes_outcome=True)(work.see, ident))
        note(ident, "stream")

    return StreamingHttpResponse(parts())


@both
def astreams(request: HttpRequest, ident: str) -> HttpResponseBase:
    """An async generator that registers while it streams."""

    async def parts() -> AsyncIterator[bytes]:
        keep(ident, await aafter_response(note, ident, "first"))
        for part in PARTS:
            yield part
            await asyncio.sleep(0)
            keep(ident, await aafter_response(anote, ident, part.decode()))
        keep(ident, await aafter_response.using(takes_outcome=True)(work.asee, ident))
        note(ident, "stream")

    return StreamingHttpResponse(parts())


@both
def sends_file(request: HttpRequest, ident: str) -> FileResponse:
    _register_three(ident)
    note(ident, "view")
    return FileResponse(BytesIO(FILE), filename="file.bin", content_type="x/file")


@both
def redirects(request: HttpRequest, ident: str) -> HttpResponse:
    _register_three(ident)
    return HttpResponseRedirect("/elsewhere")


@both
def is_missing(request: HttpRequest, ident: str) -> HttpResponse:
    """What answers is not what the view has made, but Django's page."""
    _register_three(ident)
    raise Http404


def raises(request: HttpRequest, ident: str) -> HttpResponse:
    _register_three(ident)
    raise LookupError("this view always raises")


async def araises(request: HttpRequest, ident: str) -> HttpResponse:
    await _aregister_three(ident)
    raise LookupError("this view always raises")


pair(raises, araises)


@both
def matches(request: HttpRequest, ident: str) -> HttpResponse:
    """ConditionalGetMiddleware makes another response of it."""
    _register_three(ident)
    return HttpResponse(BODY, headers={"ETag": '"fixed"'})
