"""Starlette: BaseHTTPMiddleware inside and outside, mounted, its test client, and uvicorn."""

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from async_after import Runner, after_response
from async_after.asgi import AfterResponseMiddleware

from .harness import Server, finish
from .launch import Config
from .star import BODY, Passing
from .test_uvicorn import KINDS

with warnings.catch_warnings():
    # Starlette would rather have httpx2.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient


def config(name: str, http: str = "httptools", loop: str = "uvloop") -> Config:
    return Config(f"tests.servers.star:{name}", http, loop)


FORMS = ("plain", "inside", "outside", "mounted")
EVERY_FORM = pytest.mark.parametrize(
    "config", [*map(config, FORMS), config("outside", "h11", "asyncio")], ids=str
)


# Under uvicorn.


@EVERY_FORM
@KINDS
@pytest.mark.parametrize("page", ["async", "sync", "stream"])
def test_under_uvicorn(server: Server, page: str, kind: str) -> None:
    """The next request on the connection is answered while the callbacks run."""
    first, second = server.new_ident(), server.new_ident()
    with server.connect() as client:
        assert client.get(f"/{page}/{first}?n=2&gated&kind={kind}").body == BODY
        server.wait(first, "start")
        assert client.get(f"/{page}/{second}?kind={kind}").body == BODY
        server.wait(second, "end")
    order = finish(server, first, 2)
    assert order.index("sent") < order.index("outcome") < order.index("start")
    assert (
        server.outcome(first).items()
        >= {
            "completion": "SENT",
            "status": 200,
            "body_bytes": len(BODY),
        }.items()
    )


@EVERY_FORM
@pytest.mark.parametrize("end", ["FIN", "RST"])
def test_the_client_closes_after_the_response(server: Server, end: str) -> None:
    ident = server.new_ident()
    client = server.connect()
    client.get(f"/async/{ident}?n=2&gated")
    client.reset() if end == "RST" else client.close()
    finish(server, ident, 2)
    assert server.outcome(ident)["completion"] == "SENT"


@EVERY_FORM
@pytest.mark.parametrize("end", ["FIN", "RST"])
def test_the_client_closes_mid_stream(server: Server, end: str) -> None:
    ident = server.new_ident()
    client = server.connect()
    client.send(f"/endless/{ident}?n=2&gated")
    client.head()
    assert client.chunk() == BODY
    client.reset() if end == "RST" else client.close()
    finish(server, ident, 2)
    assert server.outcome(ident).items() >= {"completion": "DISCONNECTED", "status": 200}.items()


@EVERY_FORM
def test_an_endpoint_that_raises(server: Server) -> None:
    """Starlette's error page is made by its outermost layer: inside the wrapper
    or, where the wrapper is one of its middlewares, outside."""
    ident = server.new_ident()
    with server.connect() as client:
        assert client.get(f"/raises/{ident}?n=2&gated").status == 500
    finish(server, ident, 2)
    is_outside = server.config.app.endswith("outside")
    assert (
        server.outcome(ident).items()
        >= {
            "completion": "FAILED" if is_outside else "SENT",
            "status": None if is_outside else 500,
            "error": "RuntimeError",
            "is_success": False,
        }.items()
    )


@EVERY_FORM
def test_starlettes_own_background_task(server: Server) -> None:
    ident = server.new_ident()
    assert server.get(f"/background/{ident}?gated").body == BODY
    order = finish(server, ident)
    assert order.index("background") < order.index("start")


@pytest.mark.parametrize("config", [*map(config, FORMS)], ids=str)
def test_sigterm_while_callbacks_run(own_server: Server) -> None:
    server = own_server
    server.get("/async/coroutine?n=2&delay=0.3")
    server.get("/async/plain?n=2&delay=0.3&kind=sync")
    server.wait("coroutine", "start")
    server.wait("plain", "start")
    server.terminate()
    server.wait_for_exit()
    for ident in ("coroutine", "plain"):
        assert len(server.events(ident, "end")) == 2, server.report()
    if not server.config.app.endswith("mounted"):
        assert server.events()[-1]["event"] == "shutdown", server.report()


# Starlette's test client.


class Life:
    """A Starlette app that says what it did, and what was open meanwhile."""

    def __init__(self, form: str) -> None:
        self.events: list[str] = []
        self.runner = Runner()
        routes = [Route("/async", self.asynchronous), Route("/sync", self.synchronous)]

        def wrap(app: ASGIApp) -> AfterResponseMiddleware:
            return AfterResponseMiddleware(app, runner=self.runner)

        passing = Middleware(Passing)
        self.app: ASGIApp
        if form == "plain":
            self.app = wrap(Starlette(routes=routes, lifespan=self.lifespan))
        elif form == "inside":
            self.app = wrap(Starlette(routes=routes, lifespan=self.lifespan, middleware=[passing]))
        elif form == "outside":
            ours = Middleware(AfterResponseMiddleware, runner=self.runner)
            self.app = Starlette(routes=routes, lifespan=self.lifespan, middleware=[passing, ours])
        else:
            mounted = wrap(Starlette(routes=routes))
            self.app = Starlette(routes=[Mount("/", mounted)], lifespan=self.lifespan)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.events.append("startup")
        yield
        self.events.append("shutdown")

    async def coroutine(self, name: str) -> None:
        await asyncio.sleep(0.02)
        self.events.append(f"{name} coroutine")

    def plain(self, name: str) -> None:
        self.events.append(f"{name} plain")

    async def asynchronous(self, request: Request) -> Response:
        after_response(self.coroutine, "async")
        after_response(self.plain, "async")
        return PlainTextResponse("answered")

    def synchronous(self, request: Request) -> Response:
        after_response(self.plain, "sync")
        after_response(self.coroutine, "sync")
        return PlainTextResponse("answered")


@pytest.mark.parametrize("form", FORMS)
def test_three_test_clients_in_one_process(form: str) -> None:
    """Each enters the lifespan of the same app, on a loop of its own."""
    life = Life(form)
    for _ in range(3):
        life.events.clear()
        with TestClient(life.app) as client:
            assert client.get("/async").text == "answered"
            assert client.get("/sync").text == "answered"
        assert life.events[0] == "startup"
        assert life.events[-1] == "shutdown"
        assert sorted(life.events[1:-1]) == [
            "async coroutine",
            "async plain",
            "sync coroutine",
            "sync plain",
        ]


@pytest.mark.parametrize("form", FORMS)
def test_a_test_client_without_a_lifespan(form: str) -> None:
    """A loop per request: held, so the callbacks are over with the request."""
    life = Life(form)
    client = TestClient(life.app)
    for _ in range(3):
        life.events.clear()
        assert client.get("/async").text == "answered"
        assert life.events == ["async coroutine", "async plain"]
        life.events.clear()
        assert client.get("/sync").text == "answered"
        assert life.events == ["sync plain", "sync coroutine"]


def test_a_test_client_gets_the_exception_of_the_app() -> None:
    ran: list[str] = []
    runner = Runner()

    async def endpoint(request: Request) -> Response:
        after_response(ran.append, "callback")
        raise ValueError("from the endpoint")

    app = AfterResponseMiddleware(Starlette(routes=[Route("/", endpoint)]), runner=runner)
    with TestClient(app) as client, pytest.raises(ValueError, match="from the endpoint"):
        client.get("/")
    assert ran == ["callback"]
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/").status_code == 500
    assert ran == ["callback"] * 2


@pytest.mark.parametrize("form", FORMS)
def test_a_websocket_passes(form: str) -> None:
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    life = Life(form)
    app: ASGIApp = AfterResponseMiddleware(
        Starlette(routes=[WebSocketRoute("/echo", echo), Mount("/", life.app)])
    )
    with TestClient(app) as client, client.websocket_connect("/echo") as socket:
        socket.send_text("hello")
        assert socket.receive_text() == "hello"
