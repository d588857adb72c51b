"""The application of ``starvation``: Django behind the wrapper, all bounds at their defaults.

``/plain``, ``/none``, ``/sync`` and ``/async`` answer alike; the last two
register a callback of half a second. ``/state`` tells of the callbacks and of
the worker threads.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

from async_after import after_response
from async_after._core import conf
from async_after.asgi import AfterResponseMiddleware, App

SECONDS = 0.5
WORKER = "async_after worker"
BODY = json.dumps({"lines": [{"sku": f"A-{i}", "count": i} for i in range(40)]}).encode()

registered = 0
ended: list[float] = []
"""When, on the machine's monotonic clock."""
ran_in: set[str] = set()
"""The names of the threads of the plain functions."""


def sync_sleep() -> None:
    ran_in.add(threading.current_thread().name)
    time.sleep(SECONDS)
    ended.append(time.monotonic())


async def async_sleep() -> None:
    await asyncio.sleep(SECONDS)
    ended.append(time.monotonic())


CALLBACKS: dict[str, Callable[[], Any]] = {"sync": sync_sleep, "async": async_sleep}


async def view(request: HttpRequest, kind: str) -> HttpResponse:
    global registered
    callback = CALLBACKS.get(kind)
    if callback is not None:
        after_response(callback)
        registered += 1
    return HttpResponse(BODY, content_type="application/json")


async def state(request: HttpRequest) -> HttpResponse:
    bounds = conf.bounds()
    alive = {thread.name for thread in threading.enumerate() if thread.name.startswith(WORKER)}
    told = {
        "registered": registered,
        "ended": len(ended),
        "last_ended": max(ended, default=0.0),
        "threads": len(alive | ran_in),
        "seconds": SECONDS,
        "limit": bounds.limit,
        "max_threads": bounds.max_threads,
    }
    return HttpResponse(json.dumps(told), content_type="application/json")


urlpatterns = [path("state", state), path("<str:kind>", view)]


def _app() -> AfterResponseMiddleware:
    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="bench", USE_TZ=True)
    django.setup()
    from django.core.asgi import get_asgi_application

    # Django's stubs want a dict where ASGI has any mutable mapping.
    application: Any = get_asgi_application()
    return AfterResponseMiddleware(cast(App, application))


app = _app()
