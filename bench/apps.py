"""The applications under test, for a server to import.

``/none``, ``/async``, ``/sync``, ``/cpu`` and ``/database`` are answered alike;
all but the first register a callback of that kind. In front of that, the shape of
the response: ``/chunked/none`` without Content-Length and in parts, ``/large/none``
of 1 MB, ``/large-chunked/none``. ``/counts`` tells of the callbacks, ``/package``
where ours is, and ``/late/200`` comes 200 µs late, of which nothing but the client's
own validation knows. ``/plain/none`` and so on are the same by plain functions, for WSGI
(``wsgi_app``); ``/stream/none`` and so on without Content-Length.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import django
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import path

import async_after
from async_after import after_response
from async_after.asgi import AfterResponseMiddleware, App, Receive, Scope, Send

from .asgi_servers import DATABASE
from .nothing import do_nothing

SECONDS = 1.0
CPU_SECONDS = 0.005
BODY = json.dumps(
    {"order": 1, "lines": [{"sku": f"A-{i}", "count": i} for i in range(40)]}
).encode()
LARGE_BODY = BODY * (1_000_000 // len(BODY) + 1)
PART = 65536

registered = 0
ended: list[None] = []


async def async_sleep() -> None:
    await asyncio.sleep(SECONDS)
    ended.append(None)


def sync_sleep() -> None:
    time.sleep(SECONDS)
    ended.append(None)


def sync_cpu() -> None:
    until = time.thread_time() + CPU_SECONDS
    while time.thread_time() < until:
        pass
    ended.append(None)


def database_write() -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO written (at) VALUES (%s)", [time.time()])
    ended.append(None)


CALLBACKS: dict[str, Callable[[], Any]] = {
    "async": async_sleep,
    "sync": sync_sleep,
    "cpu": sync_cpu,
    "database": database_write,
}


def answer(kind: str, body: bytes = BODY) -> bytes:
    global registered
    if kind == "counts":
        return json.dumps([registered, len(ended)]).encode()
    if kind == "package":
        return os.path.dirname(async_after.__file__).encode()
    callback = CALLBACKS.get(kind)
    if callback is not None:
        after_response(callback)
        registered += 1
    return body


def parts(body: bytes) -> Sequence[bytes]:
    """Two at least, so that its length is not known at the first."""
    size = min(PART, len(body) // 2 + 1)
    return [body[i : i + size] for i in range(0, len(body), size)]


def late(microseconds: int) -> bytes:
    """Busy so long before the response: what a client must find."""
    until = time.perf_counter() + microseconds * 1e-6
    while time.perf_counter() < until:
        pass
    return BODY


async def view(request: HttpRequest, kind: str, shape: str = "") -> HttpResponseBase:
    body = answer(kind, LARGE_BODY if shape.startswith("large") else BODY)
    if not shape.endswith("chunked"):
        return _whole(body)

    async def streamed() -> AsyncIterator[bytes]:
        for part in parts(body):
            yield part

    return StreamingHttpResponse(streamed(), content_type="application/json")


async def late_view(request: HttpRequest, microseconds: int) -> HttpResponse:
    return _whole(late(microseconds))


def plain(request: HttpRequest, kind: str) -> HttpResponse:
    return _whole(answer(kind))


def stream(request: HttpRequest, kind: str) -> StreamingHttpResponse:
    body = answer(kind)
    return StreamingHttpResponse((body[:1000], body[1000:]), content_type="application/json")


def _whole(body: bytes) -> HttpResponse:
    # Servers make the response chunked where its length is not told.
    length = {"Content-Length": str(len(body))}
    return HttpResponse(body, content_type="application/json", headers=length)


urlpatterns = [
    path("<str:kind>", view),
    path("late/<int:microseconds>", late_view),
    path("plain/<str:kind>", plain),
    path("stream/<str:kind>", stream),
    path("<str:shape>/<str:kind>", view),
]


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")
    shape, _, kind = scope["path"][1:].rpartition("/")
    if shape == "late":
        body = late(int(kind))
    else:
        body = answer(kind, LARGE_BODY if shape.startswith("large") else BODY)
    headers = [(b"content-type", b"application/json")]
    is_chunked = shape.endswith("chunked")
    if not is_chunked:
        headers.append((b"content-length", str(len(body)).encode()))
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if is_chunked:
        for part in parts(body):
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"" if is_chunked else body})


def configure() -> None:
    """Django, without anything that is not needed to answer."""
    database = os.environ.get(DATABASE)
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": database}
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="bench",
        USE_TZ=True,
        DATABASES={"default": sqlite} if database else {},
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
_django = _django_app()
django_app = AfterResponseMiddleware(_django)
_APPS: dict[bytes, App] = {b"wrapped": django_app, b"nothing": do_nothing(_django)}
bare_app = AfterResponseMiddleware(bare)


async def either_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Django as it is and, by the query string, behind a wrapper: in one process, so that
    nothing else differs."""
    is_http = scope["type"] == "http"
    app = _APPS.get(scope["query_string"], _django) if is_http else django_app
    await app(scope, receive, send)
