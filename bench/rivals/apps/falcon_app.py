"""Falcon's own. https://falcon.readthedocs.io/en/stable/api/request_and_response_asgi.html#falcon.asgi.Response.schedule"""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator
from typing import Any

from falcon.asgi import App, Request, Response

from ..work import BODY, CHUNK, CHUNK_PAUSE, CHUNKS, Asked

logging.basicConfig(level=logging.WARNING)


class Resource:
    async def on_get(self, request: Request, response: Response, **asked_for: Any) -> None:
        asked = Asked(**asked_for)
        asked.note("begun")
        for each in asked.works():
            if each.kind == "async":
                response.schedule(functools.partial(each.async_function, *each.arguments))
            else:
                response.schedule_sync(functools.partial(each.function, *each.arguments))
        await asked.rest_of_view()
        if asked.what == "stream":
            response.stream = _chunks()
        else:
            response.data = BODY


async def _chunks() -> AsyncIterator[bytes]:
    for _ in range(CHUNKS):
        yield CHUNK
        await asyncio.sleep(CHUNK_PAUSE)


application: Any = App()
application.add_route("/{what}/{kind}/{milliseconds:int}/{token}", Resource())
