"""Starlette under uvicorn, with its BaseHTTPMiddleware inside and outside of the wrapper."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from async_after.asgi import AfterResponseMiddleware

from . import work
from .events import App, Receive, Recorder, Scope, Send, ident_of, record
from .gates import Gate

BODY = b"The body of the response.\n"


def wanted(request: Request) -> work.Wanted:
    return work.Wanted.by(request.path_params["ident"], request.query_params)


async def async_endpoint(request: Request) -> Response:
    await wanted(request).aregister()
    return PlainTextResponse(BODY)


def sync_endpoint(request: Request) -> Response:
    """Starlette runs it in a thread."""
    wanted(request).register()
    return PlainTextResponse(BODY)


async def stream(request: Request) -> Response:
    await wanted(request).aregister()

    async def chunks() -> AsyncIterator[bytes]:
        for byte in BODY:
            yield bytes([byte])

    return StreamingResponse(chunks())


async def endless(request: Request) -> Response:
    await wanted(request).aregister()

    async def chunks() -> AsyncIterator[bytes]:
        yield BODY
        await Gate(f"never-{request.path_params['ident']}").wait()

    return StreamingResponse(chunks())


async def raises(request: Request) -> Response:
    await wanted(request).aregister()
    raise RuntimeError("this endpoint always raises")


async def background(request: Request) -> Response:
    """Starlette's own background task runs inside the app: before our callbacks."""
    ident = request.path_params["ident"]
    await wanted(request).aregister()
    return PlainTextResponse(BODY, background=BackgroundTask(record, "background", ident))


ROUTES = [
    Route("/async/{ident}", async_endpoint),
    Route("/sync/{ident}", sync_endpoint),
    Route("/stream/{ident}", stream),
    Route("/endless/{ident}", endless),
    Route("/raises/{ident}", raises),
    Route("/background/{ident}", background),
]


class Passing(BaseHTTPMiddleware):
    """Does nothing but what BaseHTTPMiddleware does: runs the app in a task of
    its own, and hands its messages on."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


class FromTheWrapper:
    """Says that control is back from the wrapper, where that is not the server."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception:
            record("raised", ident_of(scope["path"]))
            raise


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    record("startup", "lifespan")
    yield
    record("shutdown", "lifespan")


plain = Recorder(AfterResponseMiddleware(Starlette(routes=ROUTES, lifespan=lifespan)))

inside = Recorder(
    AfterResponseMiddleware(
        Starlette(routes=ROUTES, lifespan=lifespan, middleware=[Middleware(Passing)])
    )
)

# As users of Starlette write it. The lifespan passes through the wrapper.
outside = Recorder(
    Starlette(
        routes=ROUTES,
        lifespan=lifespan,
        middleware=[
            Middleware(Passing),
            Middleware(FromTheWrapper),
            Middleware(AfterResponseMiddleware),
        ],
    )
)

# Below a Mount, where no lifespan comes: it holds.
mounted = Recorder(
    Starlette(routes=[Mount("/", AfterResponseMiddleware(Starlette(routes=ROUTES)))])
)
