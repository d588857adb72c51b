"""The Django ways: one view for all of them; what differs is in ``django_ways``."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any, cast

from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponseBase
from django.urls import path

from async_after.asgi import App

from ..work import BODY, CHUNK, CHUNK_PAUSE, CHUNKS, WAY, Asked

_application: Any = get_asgi_application()

from . import django_ways  # noqa: E402  some of the packages want Django configured

way = django_ways.WAYS[os.environ[WAY]]()


async def view(request: ASGIRequest, **asked_for: Any) -> HttpResponseBase:
    asked = Asked(**asked_for)
    asked.note("begun")
    response = _response(asked)
    await way.register(request, response, asked.works())
    await asked.rest_of_view()
    return response


def sync_view(request: ASGIRequest, **asked_for: Any) -> HttpResponseBase:
    asked = Asked(**asked_for)
    asked.note("begun")
    way.register_sync(asked.works())
    asked.rest_of_sync_view()
    return _response(asked)


def _response(asked: Asked) -> HttpResponseBase:
    if asked.what != "stream":
        return way.response_class(BODY, headers={"Content-Length": str(len(BODY))})
    return way.streaming_class(_chunks())


async def _chunks() -> AsyncIterator[bytes]:
    for _ in range(CHUNKS):
        yield CHUNK
        await asyncio.sleep(CHUNK_PAUSE)


_route = "<str:what>/{}/<int:milliseconds>/<str:token>"
urlpatterns = [path(_route.format("<str:kind>"), cast(Any, view))]
if way.has_sync_view:
    urlpatterns.insert(0, path(_route.format("sync"), cast(Any, sync_view), {"kind": "sync"}))

application: App = way.wrap(cast(App, _application))
