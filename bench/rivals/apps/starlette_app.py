"""Starlette's own, and asgi-background, which its documentation shows with Starlette.

https://www.starlette.io/background/, https://github.com/adriangb/asgi-background
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.background import BackgroundTasks
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..work import BODY, CHUNK, CHUNK_PAUSE, CHUNKS, WAY, Asked

logging.basicConfig(level=logging.WARNING)
_IS_STARLETTES = os.environ[WAY] == "starlette"


async def endpoint(request: Request) -> Response:
    asked = Asked(**request.path_params)
    asked.note("begun")
    tasks = BackgroundTasks()
    if _IS_STARLETTES:
        for each in asked.works():
            tasks.add_task(each.function, *each.arguments)
    else:
        await _add_to_asgi_background(request, asked)
    await asked.rest_of_view()
    background = tasks if tasks.tasks else None
    if asked.what == "stream":
        return StreamingResponse(_chunks(), background=background)
    return Response(BODY, background=background)


async def _add_to_asgi_background(request: Request, asked: Asked) -> None:
    from asgi_background import BackgroundTasks

    tasks = BackgroundTasks(request.scope)
    for each in asked.works():
        await tasks.add_task(each.async_function, *each.arguments)  # type: ignore[arg-type]


async def _chunks() -> AsyncIterator[bytes]:
    for _ in range(CHUNKS):
        yield CHUNK
        await asyncio.sleep(CHUNK_PAUSE)


def _middleware() -> list[Middleware]:
    if _IS_STARLETTES:
        return []
    from asgi_background import BackgroundTaskMiddleware

    return [Middleware(BackgroundTaskMiddleware)]


_route = Route("/{what}/{kind}/{milliseconds:int}/{token}", endpoint)
application = Starlette(routes=[_route], middleware=_middleware())
