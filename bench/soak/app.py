"""The application of ``soak``: Django behind the wrapper, a database of its own, and a way to ask.

``/VIEW?cb=KIND,KIND`` registers those kinds of callbacks. ``/control/...``
never reaches the wrapper, so that asking is no exchange.
"""

import asyncio
import json
import os
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from inspect import iscoroutine
from pathlib import Path
from typing import Any, cast

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from async_after import Outcome
from async_after.asgi import AfterResponseMiddleware, App, Message, Receive, Scope, Send

DIRECTORY = Path(os.environ["ASYNC_AFTER_SOAK"])
DATABASE = DIRECTORY / "soak.sqlite3"
FINAL = DIRECTORY / "final.json"
WAIT_TIMEOUT, CLOSE_TIMEOUT = 4.0, 2.0


def configure() -> None:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="bench",
        USE_TZ=True,
        INSTALLED_APPS=["django.contrib.sessions"],
        LOGGING_CONFIG=None,  # warnings and worse to stderr
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": DATABASE,
                "OPTIONS": {"timeout": 30, "init_command": "PRAGMA journal_mode=wal;"},
            }
        },
        ASYNC_AFTER={"WAIT_TIMEOUT": WAIT_TIMEOUT, "CLOSE_TIMEOUT": CLOSE_TIMEOUT},
    )
    django.setup()
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", verbosity=0)
    connections.close_all()


configure()

from . import control  # noqa: E402
from .kinds import KINDS  # noqa: E402

PIECE = b"0123456789abcdef" * 512


def register(request: HttpRequest) -> None:
    for name in _wanted(request):
        if name != "aafter":
            KINDS[name]()


async def aregister(request: HttpRequest) -> None:
    for name in _wanted(request):
        registered = KINDS[name]()
        if iscoroutine(registered):
            await registered


def _wanted(request: HttpRequest) -> list[str]:
    return [name for name in request.GET.get("cb", "").split(",") if name]


# The views.


async def plain(request: HttpRequest) -> HttpResponse:
    await aregister(request)
    return HttpResponse(b"plain")


def plain_sync(request: HttpRequest) -> HttpResponse:
    register(request)
    return HttpResponse(b"plain")


async def slow(request: HttpRequest) -> HttpResponse:
    await aregister(request)
    await asyncio.sleep(0.1)
    await aregister(request)
    return HttpResponse(b"slow")


def slow_sync(request: HttpRequest) -> HttpResponse:
    register(request)
    time.sleep(0.05)
    register(request)
    return HttpResponse(b"slow")


async def big(request: HttpRequest) -> HttpResponse:
    register(request)
    return HttpResponse(PIECE * 100)


async def post(request: HttpRequest) -> HttpResponse:
    register(request)
    return HttpResponse(str(len(request.body)))


async def fail(request: HttpRequest) -> HttpResponse:
    register(request)
    raise RuntimeError("soak: the view")


async def stream(request: HttpRequest, how: str) -> StreamingHttpResponse:
    async def pieces() -> AsyncIterator[bytes]:
        register(request)
        for number in range(12):
            yield PIECE
            if number == 6:
                register(request)
                if how == "fails":
                    raise RuntimeError("soak: the stream")
            await asyncio.sleep(0.005 if how == "slow" else 0)

    return StreamingHttpResponse(pieces())


def stream_sync(request: HttpRequest) -> StreamingHttpResponse:
    def pieces() -> Iterator[bytes]:
        register(request)
        for _ in range(12):
            yield PIECE

    return StreamingHttpResponse(pieces())


_late: set["asyncio.Task[None]"] = set()


async def late(request: HttpRequest) -> HttpResponse:
    async def outlive() -> None:
        await asyncio.sleep(0.02)
        KINDS["late"]()

    task = asyncio.create_task(outlive())
    _late.add(task)
    task.add_done_callback(_late.discard)
    register(request)
    return HttpResponse(b"late")


urlpatterns = [
    path("plain", plain),
    path("plain-sync", plain_sync),
    path("slow", slow),
    path("slow-sync", slow_sync),
    path("big", big),
    path("post", post),
    path("fail", fail),
    path("stream-<str:how>", stream),
    path("stream-sync/", stream_sync),
    path("late", late),
]


# Around the wrapper.


class Outside:
    """Counts the exchanges, answers ``/control/``, and writes the books down at the end."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.exchanges = 0
        self.in_flight = 0
        self.seen: Counter[str] = Counter()
        self.is_idle = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["path"].startswith("/control/"):
            await self._control(scope, send)
        else:
            self.exchanges += 1
            self.in_flight += 1
            self.is_idle.clear()
            try:
                await self._app(scope, receive, send)
            finally:
                self.in_flight -= 1
                if not self.in_flight:
                    self.is_idle.set()

    async def every(self, outcome: Outcome) -> None:
        """The wrapper's own callback, after every response."""
        self.seen[outcome.completion.value] += 1

    def exchange_books(self) -> dict[str, Any]:
        return {"exchanges": self.exchanges, "every": self.seen, "in_flight": self.in_flight}

    async def settle(self) -> None:
        """Nothing more comes: wait for the requests and the tasks that outlive them."""
        async with asyncio.timeout(30):
            while self.in_flight or _late:
                self.is_idle.clear()
                if self.in_flight:
                    await self.is_idle.wait()
                await asyncio.gather(*_late, return_exceptions=True)

    async def _control(self, scope: Scope, send: Send) -> None:
        name = scope["path"].removeprefix("/control/")
        try:
            told = await control.answer(name, self)
        except Exception:
            told = {"error": traceback.format_exc()}
        body = json.dumps(told).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def last(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                # uvicorn ends the process right behind it.
                FINAL.write_text(json.dumps(control.books(self, is_last=True)))
            await send(message)

        await self._app(scope, receive, last)


def _make() -> Outside:
    from django.core.asgi import get_asgi_application

    async def every(outcome: Outcome) -> None:
        await outside.every(outcome)

    # Django's stubs want a dict where ASGI has any mutable mapping.
    application: Any = get_asgi_application()
    outside = Outside(AfterResponseMiddleware(cast(App, application), callbacks=[every]))
    return outside


app = _make()
