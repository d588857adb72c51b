"""The ASGI wrapper in process: which exchange, and how long its coroutine stays."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from async_after import (
    Callback,
    CallbackState,
    Completion,
    NoActiveExchange,
    Runner,
    after_response,
)
from async_after._core.exchange import KEY, current_exchange
from async_after.asgi import AfterResponseMiddleware

from .inprocess import (
    DEADLINE,
    App,
    Lifespan,
    Receive,
    Scope,
    Seen,
    Send,
    StandIn,
    body,
    http_scope,
    sending,
    start,
    until,
)

hello = sending(start(), body(b"hello"))


async def ask(app: App, path: str) -> str:
    """Through an in-process client."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return (await client.get(path)).text


# What is passed through.


@pytest.mark.parametrize("kind", ["websocket", "something-new"])
async def test_other_scopes_are_passed_through_untouched(kind: str) -> None:
    got: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.extend([scope, receive, send])
        with pytest.raises(NoActiveExchange):
            after_response(print)

    scope: Scope = {"type": kind, "path": "/socket"}
    before = dict(scope)
    server = StandIn()
    receive, send = server.receive, server.send
    await AfterResponseMiddleware(app, callbacks=[Seen()])(scope, receive, send)
    assert all(a is b for a, b in zip(got, (scope, receive, send), strict=True))
    assert scope == before


@pytest.mark.parametrize("raises", [True, False])
async def test_a_websocket_inside_a_view_opens_no_exchange(raises: bool) -> None:
    """And does not see that of the view, which is back afterwards."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            assert current_exchange.get() is None
            if raises:
                raise ValueError
            return
        mine = current_exchange.get()
        try:
            await wrapped({"type": "websocket"}, receive, send)
        except ValueError:
            assert raises
        assert current_exchange.get() is mine
        assert mine is not None
        await hello(scope, receive, send)

    wrapped = AfterResponseMiddleware(app)
    await StandIn().call(wrapped)
    assert current_exchange.get() is None


async def test_the_scope_of_the_server_stays_its_own() -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope[KEY])
        assert scope[KEY] is current_exchange.get()
        await hello(scope, receive, send)

    scope = http_scope()
    await StandIn().call(AfterResponseMiddleware(app), scope)
    assert KEY not in scope
    assert current_exchange.get() is None
    assert len(seen) == 1


# Nested.


async def test_wrapped_twice_is_one_exchange() -> None:
    outer, inner = Seen(), Seen()
    exchanges: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchanges.append(scope[KEY])
        after_response(exchanges.append, "callback")
        await hello(scope, receive, send)

    outer_runner, inner_runner = Runner(), Runner()
    wrapped = AfterResponseMiddleware(
        AfterResponseMiddleware(app, callbacks=[inner], runner=inner_runner),
        callbacks=[outer],
        runner=outer_runner,
    )
    await StandIn().call(wrapped)
    assert await outer.one() is await inner.one()
    await outer_runner.drain(DEADLINE)
    assert exchanges[1:] == ["callback"]


async def test_mounted_below_another_wrapper() -> None:
    outer, inner, runner = Seen(), Seen(), Runner()
    ran: list[str] = []

    async def endpoint(request: Request) -> Response:
        after_response(ran.append, request.url.path)
        return PlainTextResponse("mounted")

    mounted = AfterResponseMiddleware(
        Starlette(routes=[Route("/page", endpoint)]), callbacks=[inner]
    )
    app = AfterResponseMiddleware(
        Starlette(routes=[Mount("/sub", mounted), Route("/page", endpoint)]),
        callbacks=[outer],
        runner=runner,
    )
    assert await ask(app, "/sub/page") == "mounted"
    assert await inner.one() is await outer.one()
    assert await ask(app, "/page") == "mounted"
    await runner.drain(DEADLINE)
    assert ran == ["/sub/page", "/page"]
    assert [outcome.path for outcome in outer.outcomes] == ["/sub/page", "/page"]
    assert len(inner.outcomes) == 1


async def test_mounted_below_an_app_that_is_not_wrapped() -> None:
    """It hears of no lifespan, and so holds."""
    ran: list[str] = []

    async def callback() -> None:
        await asyncio.sleep(0.01)
        ran.append("callback")

    async def endpoint(request: Request) -> Response:
        after_response(callback)
        return PlainTextResponse("mounted")

    mounted = AfterResponseMiddleware(Starlette(routes=[Route("/page", endpoint)]))
    app = Starlette(routes=[Mount("/sub", mounted)])
    assert await ask(app, "/sub/page") == "mounted"
    assert ran == ["callback"]


@pytest.mark.parametrize("same_app", [True, False])
async def test_an_in_process_client_inside_a_view(same_app: bool) -> None:
    """Its request has an exchange of its own, whose callbacks run while the
    view goes on; the view's is back afterwards."""
    order: list[str] = []
    runner, seen = Runner(), Seen()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        mine = current_exchange.get()
        after_response(order.append, f"{path} 1")
        if path == "/outer":
            assert await ask(wrapped if same_app else other, "/inner") == "hello"
            await inner_done(order)
        assert current_exchange.get() is mine
        after_response(order.append, f"{path} 2")
        await hello(scope, receive, send)

    async def inner_done(order: list[str]) -> None:
        async with asyncio.timeout(DEADLINE):
            while len(order) < 2:
                await asyncio.sleep(0.001)

    wrapped = AfterResponseMiddleware(app, runner=runner, callbacks=[seen])
    other = AfterResponseMiddleware(app, runner=runner)
    assert await ask(wrapped, "/outer") == "hello"
    await runner.drain(DEADLINE)
    assert order == ["/inner 1", "/inner 2", "/outer 1", "/outer 2"]
    assert [outcome.path for outcome in seen.outcomes] == (
        ["/inner", "/outer"] if same_app else ["/outer"]
    )


async def test_a_scope_handed_down_by_hand() -> None:
    """The key on the scope decides, whatever the context says."""
    order: list[object] = []
    runner = Runner()

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        assert current_exchange.get() is scope[KEY]
        after_response(order.append, "inside")

    wrapped_inside = AfterResponseMiddleware(inside)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        token = current_exchange.set(None)  # a framework that lost the context
        await wrapped_inside({**scope}, receive, send)
        assert current_exchange.get() is None
        current_exchange.reset(token)
        await hello(scope, receive, send)
        assert not order

    await StandIn().call(AfterResponseMiddleware(app, runner=runner))
    await runner.drain(DEADLINE)
    assert order == ["inside"]


async def test_callbacks_run_after_every_response() -> None:
    runner, seen = Runner(), Seen()
    plain: list[object] = []
    callbacks: Iterator[Any] = iter([seen, plain.append])  # read once, used for each response
    app = AfterResponseMiddleware(hello, runner=runner, callbacks=callbacks)
    for number in range(3):
        await StandIn().call(app, http_scope(path=f"/{number}"))
    await runner.drain(DEADLINE)
    assert [outcome.path for outcome in seen.outcomes] == ["/0", "/1", "/2"]
    assert plain == seen.outcomes


# Held or released.


class Gated:
    """An app whose callback waits for a gate."""

    def __init__(self, *messages: Any) -> None:
        self.gate = asyncio.Event()
        self.started = asyncio.Event()
        self.handle: Callback[None]
        self._messages = messages or (start(), body(b"hello"))

    async def callback(self) -> None:
        self.started.set()
        await self.gate.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.handle = after_response(self.callback)
            await sending(*self._messages)(scope, receive, send)


def calling(wrapped: AfterResponseMiddleware) -> "asyncio.Task[None]":
    return asyncio.create_task(StandIn().call(wrapped))


async def ended(task: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(DEADLINE):
        await task


async def settle_down() -> None:
    """Let everything that is ready take some turns."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("hold", [True, None])
async def test_held(hold: bool | None) -> None:
    app = Gated()
    task = calling(AfterResponseMiddleware(app, runner=Runner(), hold=hold))
    await until(app.started)
    await settle_down()
    assert not task.done()
    app.gate.set()
    await ended(task)
    assert app.handle.done()


async def test_not_held() -> None:
    app, runner = Gated(), Runner()
    task = calling(AfterResponseMiddleware(app, runner=runner, hold=False))
    await ended(task)
    assert not app.handle.done()
    app.gate.set()
    await runner.drain(DEADLINE)
    assert app.handle.done()


async def test_released_while_the_lifespan_lasts() -> None:
    app, runner = Gated(), Runner()
    wrapped = AfterResponseMiddleware(app, runner=runner)
    lifespan = Lifespan(wrapped)
    assert await lifespan.startup() == "lifespan.startup.complete"
    await ended(calling(wrapped))
    assert not app.handle.done()
    app.gate.set()
    assert await lifespan.shutdown() == "lifespan.shutdown.complete"
    assert app.handle.done()
    await lifespan.end()
    # The runner is closed now: what comes later is accounted for, and nobody waits.
    await ended(calling(wrapped))
    assert app.handle.state is CallbackState.DROPPED


async def test_held_in_spite_of_a_lifespan() -> None:
    app = Gated()
    wrapped = AfterResponseMiddleware(app, runner=Runner(), hold=True)
    lifespan = Lifespan(wrapped)
    await lifespan.startup()
    task = calling(wrapped)
    await until(app.started)
    await settle_down()
    assert not task.done()
    app.gate.set()
    await ended(task)
    await lifespan.shutdown()
    await lifespan.end()


@pytest.mark.parametrize("messages", [[start()], [start(), body(b"half", more=True)]])
async def test_never_held_where_the_response_is_not_complete(messages: list[Any]) -> None:
    """The server still has to end it."""
    app, runner = Gated(*messages), Runner()
    await ended(calling(AfterResponseMiddleware(app, runner=runner, hold=True)))
    assert not app.handle.done()
    app.gate.set()
    await runner.drain(DEADLINE)


async def test_a_held_coroutine_that_is_cancelled_waits_for_the_whole_runner() -> None:
    """daphne cancels at shutdown, and again each second; then it waits."""
    held, released, runner = Gated(), Gated(), Runner()
    await ended(calling(AfterResponseMiddleware(released, runner=runner, hold=False)))
    task = calling(AfterResponseMiddleware(held, runner=runner, hold=True))
    await until(held.started)
    for _ in range(3):
        task.cancel()
        await settle_down()
        assert not task.done()
    held.gate.set()
    await held.handle.wait(DEADLINE)
    await settle_down()
    assert not task.done()
    released.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await ended(task)
    assert held.handle.result() is None
    assert released.handle.result() is None


async def test_a_held_coroutine_lets_go_while_another_one_is_held() -> None:
    first, second, runner = Gated(), Gated(), Runner()
    tasks = [calling(AfterResponseMiddleware(app, runner=runner)) for app in (first, second)]
    await until(first.started)
    await until(second.started)
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await ended(tasks[0])
    assert not first.handle.done()
    tasks[1].cancel()
    await settle_down()
    assert not tasks[1].done()
    first.gate.set()
    second.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await ended(tasks[1])
    assert first.handle.done()
    assert second.handle.done()


async def test_a_held_coroutine_that_is_cancelled_waits_within_the_timeout() -> None:
    app, runner = Gated(), Runner(wait_timeout=0.05)
    task = calling(AfterResponseMiddleware(app, runner=runner))
    await until(app.started)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ended(task)
    assert not app.handle.done()
    # Only the wait has ended: nothing that the client or server does cancels it.
    app.gate.set()
    await app.handle.wait(DEADLINE)
    assert app.handle.state is CallbackState.SUCCEEDED


# Bad arguments.


async def _coroutine_function(outcome: object) -> None: ...


async def _async_generator_function(outcome: object) -> Any:
    yield


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"app": None}, "app must be an ASGI application, not NoneType"),
        ({"app": "module:app"}, "app must be an ASGI application, not str"),
        ({"runner": object()}, "runner must be a Runner, not object"),
        ({"runner": Runner}, "runner must be a Runner, not type"),
        ({"hold": "yes"}, "hold must be True, False or None, not 'yes'"),
        ({"hold": 1}, "hold must be True, False or None, not 1"),
        ({"callbacks": [print, None]}, "needs a callable, not NoneType"),
        ({"callbacks": print}, "not iterable"),
        ({"callbacks": [_async_generator_function]}, "async generator function"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    make: Any = AfterResponseMiddleware
    with pytest.raises(TypeError, match=message):
        make(**{"app": hello, **arguments})


def test_a_coroutine_object_is_refused() -> None:
    make: Any = AfterResponseMiddleware
    with pytest.raises(TypeError, match="the coroutine object _coroutine_function"):
        make(hello, callbacks=[_coroutine_function(None)])


def test_options_are_keywords() -> None:
    make: Any = AfterResponseMiddleware
    with pytest.raises(TypeError, match="positional"):
        make(hello, Runner())


async def test_an_exchange_that_is_complete_says_so() -> None:
    """``Completion`` reads well in a log."""
    seen = Seen()
    await StandIn().call(AfterResponseMiddleware(hello, callbacks=[seen], runner=Runner()))
    assert (await seen.one()).completion is Completion.SENT
    assert "SENT status=200 GET /page body_bytes=5 error=None" in repr(await seen.one())
