"""A bare ASGI app: no framework between the wrapper and the server.

The first part of the path says what it does, see ``_ROUTES``.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

from async_after import Outcome
from async_after.asgi import AfterResponseMiddleware

from . import work
from .events import Message, Receive, Recorder, Scope, Send, ident_of, record
from .gates import Gate

BODY = b"The body of the response.\n"


def _start(status: int = 200, length: int | None = len(BODY)) -> Message:
    headers = [(b"content-type", b"text/plain")]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return {"type": "http.response.start", "status": status, "headers": headers}


def _body(body: bytes = BODY, *, more_body: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more_body}


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def length(ident: str, receive: Receive, send: Send) -> None:
    await send(_start())
    await send(_body())


async def chunked(ident: str, receive: Receive, send: Send) -> None:
    await send(_start(length=None))
    await send(_body(more_body=True))
    await send(_body(more_body=True))
    await send(_body(b""))


async def unfinished(ident: str, receive: Receive, send: Send) -> None:
    """All of Content-Length, but never a last message."""
    await send(_start())
    await send(_body(more_body=True))


async def raises(ident: str, receive: Receive, send: Send) -> None:
    raise RuntimeError("this app always raises")


async def raises_late(ident: str, receive: Receive, send: Send) -> None:
    await send(_start(length=None))
    await send(_body(more_body=True))
    raise RuntimeError("this app always raises half way")


async def raises_last(ident: str, receive: Receive, send: Send) -> None:
    await length(ident, receive, send)
    raise RuntimeError("this app always raises at its end")


async def returns(ident: str, receive: Receive, send: Send) -> None:
    """No response at all."""


async def endless(ident: str, receive: Receive, send: Send) -> None:
    await send(_start(length=None))
    await send(_body(more_body=True))
    await _until_gone(receive)


async def deaf(ident: str, receive: Receive, send: Send) -> None:
    """Never hears that the client has gone."""
    await send(_start(length=None))
    await send(_body(more_body=True))
    await Gate(f"rest-{ident}").wait()
    await send(_body())


async def listens(ident: str, receive: Receive, send: Send) -> None:
    """Complete, and then waits for the disconnect that servers report there."""
    await length(ident, receive, send)
    await _until_gone(receive)


_ROUTES: dict[str, Callable[[str, Receive, Send], Awaitable[None]]] = {
    "length": length,
    "chunked": chunked,
    "unfinished": unfinished,
    "raises": raises,
    "raises-late": raises_late,
    "raises-last": raises_last,
    "returns": returns,
    "endless": endless,
    "deaf": deaf,
    "listens": listens,
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise ValueError(f"this app does not know {scope['type']}")
    ident = ident_of(scope["path"])
    query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
    if "n" in query:
        await work.Wanted.by(ident, query).aregister()
    await _ROUTES[scope["path"].split("/")[1]](ident, receive, send)


async def app_with_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """The same, for a server that speaks lifespan."""
    if scope["type"] != "lifespan":
        await app(scope, receive, send)
        return
    message = await receive()
    assert message["type"] == "lifespan.startup", message
    record("startup", "lifespan")
    await send({"type": "lifespan.startup.complete"})
    message = await receive()
    assert message["type"] == "lifespan.shutdown", message
    record("shutdown", "lifespan")
    await send({"type": "lifespan.shutdown.complete"})


async def after_every_response(outcome: Outcome) -> None:
    record("every", ident_of(outcome.path or ""), **work.fields(outcome))


application = Recorder(AfterResponseMiddleware(app, callbacks=[after_every_response]))
speaking = Recorder(AfterResponseMiddleware(app_with_lifespan))
