"""Settings, views and application in one. ``GREEN_MIDDLEWARE`` puts the Django
middleware in, and leaves the wrapper out."""

import asyncio
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils import translation

from async_after import aafter_response, after_response, exchange_scope
from async_after.wsgi import AfterResponseMiddleware

from ...servers.events import VARIABLE, record
from ...servers.gates import GATE_TIMEOUT, path_of

ALONE = "GREEN_MIDDLEWARE"

settings.configure(
    SECRET_KEY="for tests only",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["tests.wsgi.green"],
    MIDDLEWARE=["async_after.django.AfterResponseMiddleware"] * (ALONE in os.environ),
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{os.environ[VARIABLE]}.sqlite3",
            "OPTIONS": {"timeout": 20},
        }
    },
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    LOGGING_CONFIG=None,
    ASYNC_AFTER=json.loads(os.environ.get("ASYNC_AFTER_TEST_SETTINGS", "{}")),
)
django.setup()

from .models import Line  # noqa: E402 -- models need the settings

if not Path(settings.DATABASES["default"]["NAME"]).exists():
    with connection.schema_editor() as editor:
        editor.create_model(Line)
    connection.close()


def holds(request: HttpRequest, ident: str) -> HttpResponse:
    """Its async callback suspends until the test opens the gate."""
    after_response(hold, ident)
    return HttpResponse("held")


async def hold(ident: str) -> None:
    record("start", ident, thread=threading.current_thread().name)
    await asyncio.sleep(0)
    gate = path_of(os.environ[VARIABLE], ident)
    async with asyncio.timeout(GATE_TIMEOUT):
        # Gate starts a thread, which would be a greenlet of this loop's thread.
        while not gate.exists():
            await asyncio.sleep(0.005)
    record("end", ident)


def asks(request: HttpRequest, ident: str) -> HttpResponse:
    """The ORM, in a view."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        is_running = False
    else:
        is_running = True
    Line.objects.create(text=ident)
    count = Line.objects.filter(text=ident).count()
    return HttpResponse(json.dumps({"count": count, "a loop runs": is_running}))


def writes(request: HttpRequest, ident: str) -> HttpResponse:
    """A plain callback that uses the ORM, in a greenlet."""
    after_response(write, ident)
    return HttpResponse("ok")


def write(ident: str) -> None:
    Line.objects.create(text=ident)
    record("end", ident, count=Line.objects.filter(text=ident).count())


def async_orm(request: HttpRequest, ident: str) -> HttpResponse:
    after_response(awrite, ident)
    after_response(record, "next", ident)
    return HttpResponse("ok")


async def awrite(ident: str) -> None:
    await Line.objects.acreate(text=ident)


def chain(request: HttpRequest, ident: str) -> HttpResponse:
    """Plain and async ones in turn, with more registered by an async one."""
    for number in range(3):
        after_response(record, "step", ident, n=2 * number)
        after_response(step, ident, 2 * number + 1)
    after_response(register_more, ident)
    return HttpResponse("ok")


async def step(ident: str, number: int) -> None:
    await asyncio.sleep(0.001)
    record("step", ident, n=number)


async def register_more(ident: str) -> None:
    await asyncio.sleep(0)
    after_response(record, "step", ident, n=6)
    concurrent = after_response.using(concurrent=True)(step, ident, 7)
    await concurrent.wait()
    await aafter_response(step, ident, 8)
    found = await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)
    record("resolved", ident, n=len(found))


def resolves(request: HttpRequest, ident: str) -> HttpResponse:
    """Each name is resolved in a thread of its own."""
    after_response(resolve, ident)
    return HttpResponse("ok")


async def resolve(ident: str) -> None:
    for _ in range(20):
        await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    await asyncio.sleep(0.1)  # until they are at their end
    record("threads", ident, n=len(sys._current_frames()))


def waits(request: HttpRequest, ident: str) -> HttpResponse:
    """With one slot: it is lent while its callback waits for another's."""
    after_response(wait_for_another, ident)
    return HttpResponse("ok")


async def wait_for_another(ident: str) -> None:
    with exchange_scope():
        after_response(record, "in scope", ident)
        after_response(step, ident, 1)
    async with exchange_scope():
        after_response(record, "in async scope", ident)
    another = after_response.using(concurrent=True)(write, ident)
    await another.wait()
    record("waited", ident)


def elsewhere(request: HttpRequest, ident: str) -> HttpResponse:
    """From a native thread of gevent's, when the response is through."""
    after_response(record, "end", ident)
    pool = sys.modules["gevent"].get_hub().threadpool
    after_response(pool.apply, register_late, (request, ident))
    return HttpResponse("ok")


def register_late(request: HttpRequest, ident: str) -> None:
    register = after_response.using(request=request, concurrent=True)
    register(record, "late", ident)
    register(step, ident, 1)


def french(request: HttpRequest, ident: str) -> HttpResponse:
    with translation.override("fr"):
        after_response(tell_language, ident)
        after_response(atell_language, ident)
    return HttpResponse(translation.get_language())


def tell_language(ident: str) -> None:
    record("language", ident, language=translation.get_language())


async def atell_language(ident: str) -> None:
    await asyncio.sleep(0)
    tell_language(ident)


def too_long(request: HttpRequest, ident: str) -> HttpResponse:
    after_response.using(timeout=0.05)(hold, ident)
    after_response(record, "next", ident)
    return HttpResponse("ok")


urlpatterns = [
    path("holds/<ident>", holds),
    path("asks/<ident>", asks),
    path("writes/<ident>", writes),
    path("async-orm/<ident>", async_orm),
    path("chain/<ident>", chain),
    path("resolves/<ident>", resolves),
    path("waits/<ident>", waits),
    path("elsewhere/<ident>", elsewhere),
    path("french/<ident>", french),
    path("too-long/<ident>", too_long),
]

django_application: Any = get_wsgi_application()
application: Any = (
    django_application if ALONE in os.environ else AfterResponseMiddleware(django_application)
)
