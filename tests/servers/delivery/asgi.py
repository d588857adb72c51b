"""A bare ASGI app that tells how far its responses got. Nothing stands between
the wrapper and the server."""

import asyncio

from async_after.asgi import AfterResponseMiddleware

from ..events import Message, Receive, Scope, Send, ident_of, record
from ..gates import Gate
from .wanted import Wanted


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise ValueError(f"this app does not know {scope['type']}")
    ident = ident_of(scope["path"])
    wanted = Wanted.by(scope["query_string"].decode())
    wanted.register(ident)
    record("asked", ident)
    if wanted.gate == "before":
        await Gate(ident).wait()
    headers = [(name.encode(), value.encode()) for name, value in wanted.headers()]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number, part in enumerate(wanted.parts(), 1):
        if number > 1:
            await asyncio.sleep(wanted.pause)
        if number == 2 and wanted.gate == "middle":
            await Gate(ident).wait()
        more = number < len(wanted.sizes)
        await send({"type": "http.response.body", "body": part, "more_body": more})


application = AfterResponseMiddleware(app)


async def behind(scope: Scope, receive: Receive, send: Send) -> None:
    """Some other middleware between the wrapper and the server."""

    async def passing(message: Message) -> None:
        await send(message)

    await application(scope, receive, passing)
