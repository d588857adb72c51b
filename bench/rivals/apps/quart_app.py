"""Quart's own. https://quart.palletsprojects.com/en/latest/how_to_guides/background_tasks.html"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from quart import Quart, Response

from ..work import BODY, CHUNK, CHUNK_PAUSE, CHUNKS, Asked

logging.basicConfig(level=logging.WARNING)
application = Quart(__name__)


@application.get("/<what>/<kind>/<int:milliseconds>/<token>")
async def endpoint(**asked_for: Any) -> Response:
    asked = Asked(**asked_for)
    asked.note("begun")
    for each in asked.works():
        application.add_background_task(each.function, *each.arguments)
    await asked.rest_of_view()
    return Response(_chunks() if asked.what == "stream" else BODY)


async def _chunks() -> AsyncIterator[bytes]:
    for _ in range(CHUNKS):
        yield CHUNK
        await asyncio.sleep(CHUNK_PAUSE)
