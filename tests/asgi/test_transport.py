"""The ASGI wrapper in process: through httpx, and what leaves it."""

import asyncio
import threading
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from async_after import (
    Callback,
    CallbackState,
    Completion,
    NoActiveExchange,
    Runner,
    aafter_response,
    after_response,
)
from async_after.asgi import AfterResponseMiddleware

from .inprocess import (
    DEADLINE,
    Message,
    Receive,
    Scope,
    Seen,
    Send,
    StandIn,
    body,
    http_scope,
    length,
    sending,
    start,
    until,
)

# Through httpx.


async def homepage(request: Request) -> Response:
    await aafter_response(request.app.state.ran.append, "async")
    after_response.using(name="second")(request.app.state.ran.append, "plain")
    return PlainTextResponse("hello")


async def stream(request: Request) -> Response:
    async def chunks() -> object:
        yield "one"
        # Registered while the body is sent: the exchange is still open.
        after_response(request.app.state.ran.append, "from the body")
        yield "two"

    return StreamingResponse(chunks())  # type: ignore[arg-type]


def plain(request: Request) -> Response:
    """A plain endpoint: Starlette runs it in a thread."""
    after_response(request.app.state.ran.append, "thread")
    return PlainTextResponse("from a thread")


def starlette_app() -> Starlette:
    app = Starlette(routes=[Route("/", homepage), Route("/stream", stream), Route("/plain", plain)])
    app.state.ran = []
    return app


@pytest.mark.parametrize("hold", [True, False, None])
@pytest.mark.parametrize(
    ("path", "text", "ran"),
    [
        ("/", "hello", ["async", "plain"]),
        ("/stream", "onetwo", ["from the body"]),
        ("/plain", "from a thread", ["thread"]),
    ],
)
async def test_starlette_through_httpx(
    hold: bool | None, path: str, text: str, ran: list[str]
) -> None:
    inner = starlette_app()
    runner, seen = Runner(), Seen()
    app = AfterResponseMiddleware(inner, runner=runner, callbacks=[seen], hold=hold)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as client:
        response = await client.get(path)
    assert response.text == text
    await runner.drain(DEADLINE)
    assert inner.state.ran == ran
    outcome = await seen.one()
    assert (outcome.completion, outcome.status) == (Completion.SENT, 200)
    assert (outcome.method, outcome.path) == ("GET", path)
    assert outcome.body_bytes == len(text)
    await runner.aclose()


@pytest.mark.parametrize("hold", [True, False, None])
async def test_bare_app_through_httpx(hold: bool | None) -> None:
    ran: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def callback() -> None:
            await asyncio.sleep(0.01)
            ran.append(scope["path"])

        after_response(callback)
        await sending(start(headers=length(2)), body(b"o", more=True), body(b"k"))(
            scope, receive, send
        )

    runner = Runner()
    transport = httpx.ASGITransport(AfterResponseMiddleware(app, runner=runner, hold=hold))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/one")).text == "ok"
        assert (await client.get("/two")).text == "ok"
    await runner.drain(DEADLINE)
    assert ran == ["/one", "/two"]


# The app's exception belongs to the server.


@pytest.mark.parametrize("hold", [True, False, None])
@pytest.mark.parametrize("error", [ValueError("x"), asyncio.CancelledError(), SystemExit(3)])
@pytest.mark.parametrize("messages", [[], [start(), body(b"all")]])
async def test_the_exception_of_the_app_reaches_the_server_at_once(
    hold: bool | None, error: BaseException, messages: list[Message]
) -> None:
    may_end, started = asyncio.Event(), asyncio.Event()

    async def callback() -> None:
        started.set()
        await may_end.wait()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        handles.append(after_response(callback))
        await sending(*messages)(scope, receive, send)
        raise error

    handles: list[object] = []
    runner = Runner()
    with pytest.raises(type(error)) as caught:
        await StandIn().call(AfterResponseMiddleware(app, runner=runner, hold=hold))
    assert caught.value is error
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert not started.is_set()
    await until(started)
    may_end.set()
    await runner.drain(DEADLINE)


class WaitsForTheFirst:
    """An instrument that gives the first callback time to begin, on the event
    loop, when the second one is about to start."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self._count = 0

    def registered(self, callback: Callback[Any]) -> None: ...

    def started(self, callback: Callback[Any]) -> None:
        self._count += 1
        if self._count == 2:
            self.has_begun.wait(0.5)

    def ended(self, callback: Callback[Any]) -> None: ...


async def test_a_plain_callback_does_not_start_before_the_server_has_the_exception() -> None:
    """Promise 1, never_before: where the app has failed, not "before control is
    back with the server". Threads do not wait for that by themselves."""
    is_back = threading.Event()
    was_back: list[bool] = []
    instrument = WaitsForTheFirst()
    runner = Runner(instruments=[instrument])

    def callback() -> None:
        was_back.append(is_back.is_set())
        instrument.has_begun.set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        after_response.using(concurrent=True)(callback)
        after_response.using(concurrent=True)(callback)
        raise ValueError("from the app")

    stand_in = StandIn()
    with pytest.raises(ValueError, match="from the app"):
        # Awaited without a task between: the next line is the server.
        await AfterResponseMiddleware(app, runner=runner)(
            http_scope(), stand_in.receive, stand_in.send
        )
    is_back.set()
    await runner.drain(DEADLINE)
    assert was_back == [True, True]


# Isolation.


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("error", [ValueError, SystemExit, asyncio.CancelledError, GeneratorExit])
async def test_no_exception_of_a_callback_leaves_the_coroutine(
    hold: bool, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise error

    def fails_too() -> None:
        raise error

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        handles.extend([after_response(fails), after_response(fails_too)])
        handles.append(after_response(lambda: None))
        await sending(start(), body())(scope, receive, send)

    handles: list[object] = []
    runner = Runner()
    await StandIn().call(AfterResponseMiddleware(app, runner=runner, hold=hold))
    await runner.drain(DEADLINE)
    states = [handle.state for handle in handles]  # type: ignore[attr-defined]
    assert states == [CallbackState.FAILED, CallbackState.FAILED, CallbackState.SUCCEEDED]
    assert "GET /page (200)" in caplog.text


async def test_outside_of_the_wrapper_there_is_no_exchange() -> None:
    await StandIn().call(AfterResponseMiddleware(sending(start(), body())))
    with pytest.raises(NoActiveExchange):
        after_response(print)
