"""The application of ``interference``: every way of running callbacks in one process.

``/plain`` is a Django view. ``/{way}/{kind}`` is a Starlette endpoint for all ways, as
one of them is Starlette's own: what differs is how the callback of this kind is run,
which is written as the documentation of each way has it.
"""

import asyncio
import json
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, cast

from django.http import HttpRequest, HttpResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from async_after import after_response
from async_after.asgi import AfterResponseMiddleware, App, Receive, Scope, Send

from . import interference_work as work
from .interference_work import FUNCTIONS

BODY = json.dumps({"lines": [{"sku": f"A-{i}", "count": i} for i in range(40)]}).encode()
Function = Callable[[], Any]

_tasks: set["asyncio.Task[None]"] = set()


async def _nothing(kind: str, function: Function) -> None:
    pass


async def _async_after(kind: str, function: Function) -> None:
    after_response(function)


async def _starlette(kind: str, function: Function) -> BackgroundTask:
    """https://www.starlette.io/background/"""
    return BackgroundTask(function)


async def _create_task(kind: str, function: Function) -> None:
    """https://docs.python.org/3/library/asyncio-task.html#asyncio.create_task"""
    task = asyncio.create_task(function())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _run_in_executor(kind: str, function: Function) -> None:
    asyncio.get_running_loop().run_in_executor(None, function)


async def _thread(kind: str, function: Function) -> None:
    threading.Thread(target=function).start()


async def _celery(kind: str, function: Function) -> None:
    """https://docs.celeryq.dev/en/stable/userguide/calling.html"""
    from . import interference_queue

    await run_in_threadpool(interference_queue.tasks[kind].delay)


WAYS: dict[str, Callable[[str, Function], Awaitable[BackgroundTask | None]]] = {
    "nothing": _nothing,
    "async_after": _async_after,
    "starlette": _starlette,
    "create_task": _create_task,
    "run_in_executor": _run_in_executor,
    "thread": _thread,
    "celery": _celery,
}


async def endpoint(request: Request) -> Response:
    way, kind = request.path_params["way"], request.path_params["kind"]
    background = await WAYS[way](kind, FUNCTIONS[kind])
    return Response(BODY, media_type="application/json", background=background)


async def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse(BODY, content_type="application/json")


urlpatterns = [path("plain", plain)]


def _app() -> App:
    work.configure(__name__)
    work.create_table()
    if work.BROKER in os.environ:
        from . import interference_queue  # noqa: F401  at the start, not in the first request
    from django.core.asgi import get_asgi_application

    # Django's stubs want a dict where ASGI has any mutable mapping.
    application: Any = get_asgi_application()
    django = cast(App, application)
    starlette = Starlette(routes=[Route("/{way}/{kind}", endpoint)])

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        is_plain = scope["type"] == "http" and scope["path"] == "/plain"
        await (django if is_plain else starlette)(scope, receive, send)

    # Around all: it costs those that register nothing a microsecond.
    return AfterResponseMiddleware(dispatch)


app = _app()
