"""The applications under test, for a server to import: ``django_app`` and ``bare_app``.

Each answers ``/none``, ``/async`` and ``/sync`` alike; the last two register
a callback that takes one second. ``/counts`` tells of those callbacks.
``/plain/none`` and so on are the same by plain functions, for WSGI
(``wsgi_app``); ``/stream/none`` and so on without Content-Length.
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, cast

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from async_after import after_response
from async_after.asgi import AfterResponseMiddleware, App, Receive, Scope, Send

SECONDS = 1.0
BODY = json.dumps(
    {"order": 1, "lines": [{"sku": f"A-{i}", "count": i} for i in range(40)]}
).encode()

registered = 0
ended: list[None] = []


async def async_sleep() -> None:
    await asyncio.sleep(SECONDS)
    ended.append(None)


def sync_sleep() -> None:
    time.sleep(SECONDS)
    ended.append(None)


CALLBACKS: dict[str, Callable[[], Any]] = {"async": async_sleep, "sync": sync_sleep}


def answer(kind: str) -> bytes:
    global registered
    if kind == "counts":
        return json.dumps([registered, len(ended)]).encode()
    callback = CALLBACKS.get(kind)
    if callback is not None:
        after_response(callback)
        registered += 1
    return BODY


async def view(request: HttpRequest, kind: str) -> HttpResponse:
    return HttpResponse(answer(kind), content_type="application/json")


def plain(request: HttpRequest, kind: str) -> HttpResponse:
    # WSGI servers may make the response chunked where its length is not told.
    body = answer(kind)
    length = {"Content-Length": str(len(body))}
    return HttpResponse(body, content_type="application/json", headers=length)


def stream(request: HttpRequest, kind: str) -> StreamingHttpResponse:
    body = answer(kind)
    return StreamingHttpResponse((body[:1000], body[1000:]), content_type="application/json")


urlpatterns = [
    path("<str:kind>", view),
    path("plain/<str:kind>", plain),
    path("stream/<str:kind>", stream),
]


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")
    body = answer(scope["path"][1:])
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def configure() -> None:
    """Django, without anything that is not needed to answer."""
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="bench",
        USE_TZ=True,
        # One second's worth of callbacks is under way at any time, and none may wait for another.
        ASYNC_AFTER={"LIMIT": 100_000, "MAX_THREADS": 2_000},
    )
    django.setup()


def _django_app() -> App:
    from django.core.asgi import get_asgi_application

    # Django's stubs want a dict where ASGI has any mutable mapping.
    application: Any = get_asgi_application()
    return cast(App, application)


configure()
django_app = AfterResponseMiddleware(_django_app())
bare_app = AfterResponseMiddleware(bare)
