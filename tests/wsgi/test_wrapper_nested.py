"""The WSGI wrapper below another wrapper, WSGI or ASGI, and around an in-process client."""

import asyncio
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from a2wsgi import WSGIMiddleware
from asgiref.wsgi import WsgiToAsgi
from werkzeug.test import Client

from async_after import Completion, Outcome, Runner, after_response, asgi, wsgi
from async_after._core.exchange import KEY, current_exchange

from .wsgi_client import (
    DEADLINE,
    App,
    Call,
    Environ,
    Seen,
    StartResponse,
    answering,
    drain,
    environ_for,
    new_runner,
)

TEXT = [("Content-Type", "text/plain")]


@pytest.fixture
def runner() -> Iterator[Runner]:
    with new_runner() as runner:
        yield runner


@pytest.mark.parametrize("lane", ["threads", "inline"])
def test_wrapped_twice_is_one_exchange(lane: Any, runner: Runner) -> None:
    """Both ``callbacks=`` run, once each; the outer one's runner and lane count."""
    outer, inner = Seen(), Seen()
    exchanges: list[object] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        exchanges.append(environ[KEY])
        exchanges.append(current_exchange.get())
        start_response("200 OK", [*TEXT])
        yield b"abc"
        exchanges.append(current_exchange.get())

    with new_runner() as other:
        wrapped = wsgi.AfterResponseMiddleware(
            wsgi.AfterResponseMiddleware(app, runner=other, callbacks=[inner], lane="threads"),
            runner=runner,
            callbacks=[outer],
            lane=lane,
        )
        call = Call(wrapped).run()
        assert exchanges == [call.environ[KEY]] * 3
        assert outer.one() is inner.one()
        assert outer.one().body_bytes == 3
        drain(runner)
        assert other.statistics().succeeded == 0
        assert runner.statistics().succeeded == 2


def test_an_inner_that_raises(runner: Runner) -> None:
    outer, inner = Seen(), Seen()
    error = LookupError()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        raise error

    wrapped = wsgi.AfterResponseMiddleware(
        wsgi.AfterResponseMiddleware(app, callbacks=[inner]), runner=runner, callbacks=[outer]
    )
    with pytest.raises(LookupError):
        Call(wrapped).run()
    assert outer.one() is inner.one()
    assert outer.one().error is error


def test_an_environ_that_was_copied_is_the_same_request(runner: Runner) -> None:
    """What mounts an app does copy it."""
    inner = Seen()
    mounted = wsgi.AfterResponseMiddleware(answering(), callbacks=[inner])

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return mounted({**environ, "SCRIPT_NAME": "/sub"}, start_response)

    Call(wsgi.AfterResponseMiddleware(app, runner=runner)).run()
    assert inner.one().path == "/page"


# Below an ASGI wrapper.


def starlettes(app: App) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and still used
        from starlette.middleware import wsgi as starlette

        return starlette.WSGIMiddleware(app)


ADAPTERS: dict[str, Callable[[Any], Any]] = {
    "asgiref": WsgiToAsgi,
    "a2wsgi": WSGIMiddleware,
    "starlette": starlettes,
}


class Server:
    """Plays an ASGI server for one GET."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/page",
            "raw_path": b"/page",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        self.sent: list[Any] = []
        self._is_asked = False

    async def receive(self) -> Any:
        if self._is_asked:
            await asyncio.Event().wait()
        self._is_asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def call(self, app: Any) -> None:
        async with asyncio.timeout(DEADLINE):
            await app(self.scope, self.receive, self.send)

    @property
    def is_complete(self) -> bool:
        return bool(self.sent) and not self.sent[-1].get("more_body", False)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("is_streaming", [True, False])
async def test_one_exchange_below_asgi(adapter: str, is_streaming: bool) -> None:
    """The callbacks of all three run after the ASGI response."""
    server = Server()
    exchanges: list[object] = []
    ran: list[tuple[str, bool]] = []
    outcomes: list[Outcome] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        exchanges.append(environ[KEY])
        exchanges.append(current_exchange.get())
        after_response(lambda: ran.append(("view", server.is_complete)))
        start_response("201 Created", [*TEXT, ("Content-Length", "6")])
        if not is_streaming:
            return [b"onetwo"]
        return steps()

    def steps() -> Iterator[bytes]:
        yield b"one"
        exchanges.append(current_exchange.get())
        after_response(lambda: ran.append(("step", server.is_complete)))
        yield b"two"

    runner, other = Runner(), Runner()
    inner = wsgi.AfterResponseMiddleware(app, runner=other, callbacks=[outcomes.append])
    wrapped = asgi.AfterResponseMiddleware(
        ADAPTERS[adapter](inner), runner=runner, callbacks=[outcomes.append], hold=True
    )
    await server.call(wrapped)
    assert b"".join(message.get("body", b"") for message in server.sent) == b"onetwo"
    assert len({id(exchange) for exchange in exchanges}) == 1
    assert ran == [("view", True), ("step", True)][: 1 + is_streaming]
    assert len(outcomes) == 2
    assert outcomes[0] is outcomes[1]
    assert (outcomes[0].status, outcomes[0].body_bytes) == (201, 6)
    assert outcomes[0].completion is Completion.SENT
    assert other.statistics().succeeded == 0
    await runner.aclose()


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_a_wsgi_app_that_fails_below_asgi(adapter: str) -> None:
    outcomes: list[Outcome] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        after_response.using(takes_outcome=True)(outcomes.append)
        raise LookupError

    runner = Runner()
    wrapped = asgi.AfterResponseMiddleware(
        ADAPTERS[adapter](wsgi.AfterResponseMiddleware(app)), runner=runner
    )
    with pytest.raises(LookupError):
        await Server().call(wrapped)
    await runner.drain(DEADLINE)
    assert [outcome.completion for outcome in outcomes] == [Completion.FAILED]
    await runner.aclose()


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_below_an_asgi_app_that_is_not_wrapped(adapter: str) -> None:
    """Then the exchange is its own; asgiref and Starlette never call ``close()``."""
    runner = Runner()
    outcomes: list[Outcome] = []
    app = wsgi.AfterResponseMiddleware(
        answering(iter([b"a", b"b"])), runner=runner, callbacks=[outcomes.append]
    )
    server = Server()
    await server.call(ADAPTERS[adapter](app))
    async with asyncio.timeout(DEADLINE):
        while not outcomes:
            await asyncio.sleep(0.01)
    await runner.drain(DEADLINE)
    [outcome] = outcomes
    assert (outcome.completion, outcome.body_bytes) == (Completion.SENT, 2)
    await runner.aclose()


# In-process clients.


@pytest.mark.parametrize("inner_lane", ["threads", "inline"])
@pytest.mark.parametrize("outer_lane", ["threads", "inline"])
def test_werkzeugs_client_in_a_view(outer_lane: Any, inner_lane: Any, runner: Runner) -> None:
    """A request of its own: another exchange, and the view's own is back afterwards."""
    outcomes: dict[str, Outcome] = {}

    def note(outcome: Outcome) -> None:
        assert outcome.path is not None
        outcomes[outcome.path] = outcome

    def inner_app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        after_response.using(takes_outcome=True)(note)
        start_response("202 Accepted", [*TEXT])
        return [b"inner"]

    inner = Client(wsgi.AfterResponseMiddleware(inner_app, runner=runner, lane=inner_lane))

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        mine = current_exchange.get()
        start_response("200 OK", [*TEXT])
        yield inner.get("/inner/1").data
        assert current_exchange.get() is mine
        after_response.using(takes_outcome=True)(note)
        yield inner.get("/inner/2").data

    call = Call(
        wsgi.AfterResponseMiddleware(app, runner=runner, lane=outer_lane), environ_for("/outer")
    ).run()
    assert call.content == b"innerinner"
    drain(runner)
    assert {path: outcome.status for path, outcome in outcomes.items()} == {
        "/inner/1": 202,
        "/inner/2": 202,
        "/outer": 200,
    }


async def test_an_in_process_wsgi_client_in_an_asgi_view() -> None:
    """The variable is set there, but no key is in the environ: an exchange of its own."""
    runner = Runner()
    exchanges: list[object] = []

    def inner_app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        exchanges.append(environ[KEY])
        start_response("200 OK", [*TEXT])
        return [b"inner"]

    inner = Client(wsgi.AfterResponseMiddleware(inner_app, runner=runner))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchanges.append(scope[KEY])
        inner.get("/inner")
        assert current_exchange.get() is scope[KEY]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await Server().call(asgi.AfterResponseMiddleware(app, runner=runner, hold=True))
    assert len({id(exchange) for exchange in exchanges}) == 2
    await runner.aclose()


def test_werkzeugs_client_of_a_wrapped_app(runner: Runner) -> None:
    """In a test, say: with lane "inline" all has ended when it returns."""
    ran: list[str] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        after_response(ran.append, "callback")
        start_response("200 OK", [*TEXT])
        return [b"ok"]

    client = Client(wsgi.AfterResponseMiddleware(app, runner=runner, lane="inline"))
    for count in (1, 2):
        response = client.get("/", buffered=True)
        assert response.data == b"ok"
        assert len(ran) == count
