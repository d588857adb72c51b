"""The Django middleware without a wrapper: under ASGI and WSGI handlers, no test client."""

import asyncio
import gc
import threading
import wsgiref.simple_server
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import urlopen

import pytest
from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.test import override_settings

from async_after import CallbackState, Completion, Outcome, after_response, get_runner
from async_after._core.exchange import current_exchange
from async_after.asgi import AfterResponseMiddleware
from tests.django.site import views

TIMEOUT = 10


class Exchange:
    """One request to an ASGI app, with every message of it in our hands."""

    def __init__(self, path: str, query: str = "") -> None:
        self.sent: list[Any] = []
        self.gone = asyncio.Event()
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        self._body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive(self) -> Any:
        if self._body:
            return self._body.pop()
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.gone.set()  # as servers do

    async def run(self, app: Any) -> None:
        async with asyncio.timeout(TIMEOUT):
            await app(self.scope, self.receive, self.send)

    @property
    def is_complete(self) -> bool:
        return bool(self.sent) and not self.sent[-1].get("more_body", False)


def itself(outcome: Outcome | None = None) -> Outcome | None:
    return outcome


def the_outcome() -> Outcome:
    [callback] = views.registered
    outcome = callback.result()
    assert isinstance(outcome, Outcome)
    return outcome


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, TIMEOUT)


@pytest.mark.parametrize("path", ["/sync", "/async"])
async def test_close_keeps_the_request_until_its_callbacks_have_ended(path: str) -> None:
    exchange = Exchange(path)
    order: list[str] = []

    async def a() -> None:
        assert exchange.is_complete
        await asyncio.sleep(0.01)
        order.append("async")

    def s() -> None:
        assert exchange.is_complete
        order.append("sync")

    views.todo += [a, s, a]
    await exchange.run(get_asgi_application())
    assert order == ["async", "sync", "async"]
    assert [c.state for c in views.registered] == [CallbackState.SUCCEEDED] * 3


async def test_close_gives_up_after_wait_timeout() -> None:
    go_on = asyncio.Event()
    views.todo.append(go_on.wait)
    with override_settings(ASYNC_AFTER={"WAIT_TIMEOUT": 0.05}):
        await Exchange("/async").run(get_asgi_application())
    assert not views.registered[0].done()
    go_on.set()
    await get_runner().drain(TIMEOUT)
    assert views.registered[0].state is CallbackState.SUCCEEDED


async def test_a_stream_that_ends_is_sent() -> None:
    views.todo.append(itself)
    exchange = Exchange("/astream")
    await exchange.run(get_asgi_application())
    assert b"".join(m.get("body", b"") for m in exchange.sent) == b"onetwo"
    assert the_outcome().completion is Completion.SENT
    assert the_outcome().body_bytes == 6


async def test_a_sync_stream_is_sent_when_its_last_part_has_been() -> None:
    """Django makes a list of it before the first byte; the outcome must not."""
    views.todo.append(itself)
    exchange = Exchange("/stream")
    await exchange.run(get_asgi_application())
    assert b"".join(m.get("body", b"") for m in exchange.sent) == b"onetwo"
    assert the_outcome().completion is Completion.SENT


async def test_a_file_under_asgi() -> None:
    views.todo.append(itself)
    exchange = Exchange("/file")
    await exchange.run(get_asgi_application())
    assert len(b"".join(m.get("body", b"") for m in exchange.sent)) == 100_000
    assert the_outcome().body_bytes == 100_000


async def test_a_cut_stream_is_disconnected() -> None:
    views.todo.append(itself)
    exchange = Exchange("/astream", "wait=1")
    running = asyncio.create_task(exchange.run(get_asgi_application()))
    await until(views.entered)
    exchange.gone.set()
    await running
    await get_runner().drain(TIMEOUT)
    assert the_outcome().completion is Completion.DISCONNECTED
    assert the_outcome().status == 200
    assert the_outcome().body_bytes == 3


async def test_a_broken_stream_is_failed() -> None:
    views.todo.append(itself)
    exchange = Exchange("/broken-stream")
    with pytest.raises(LookupError):
        await exchange.run(get_asgi_application())
    await get_runner().drain(TIMEOUT)
    assert the_outcome().completion is Completion.FAILED
    assert isinstance(the_outcome().error, LookupError)


@pytest.mark.parametrize("path", ["/slow", "/astream"])
async def test_the_server_refuses_the_body(path: str) -> None:
    """It finds out in ``send()`` that the client has gone, and has told ``receive()`` nothing."""
    views.todo.append(itself)
    views.go_on.set()
    exchange = Exchange(path)
    accept = exchange.send

    async def send(message: Any) -> None:
        if views.registered and message["type"] == "http.response.body":
            raise ConnectionResetError
        await accept(message)

    exchange.send = send  # type: ignore[method-assign]
    with pytest.raises(ConnectionResetError):
        # In a task, as servers do: the exchange ends with it.
        await asyncio.create_task(exchange.run(get_asgi_application()))
    await get_runner().drain(TIMEOUT)
    assert the_outcome().completion is Completion.DISCONNECTED
    assert isinstance(the_outcome().error, ConnectionResetError)


async def test_a_client_that_leaves_while_an_async_view_runs() -> None:
    views.todo.append(itself)
    exchange = Exchange("/slow")
    running = asyncio.create_task(exchange.run(get_asgi_application()))
    await until(views.entered)
    exchange.gone.set()
    await running
    await get_runner().drain(TIMEOUT)
    assert the_outcome().completion is Completion.DISCONNECTED
    assert the_outcome().status is None


async def test_a_client_that_leaves_while_a_sync_view_runs() -> None:
    """Django throws the response away; nobody closes it."""
    views.todo.append(itself)
    exchange = Exchange("/slow-sync")
    running = asyncio.create_task(exchange.run(get_asgi_application()))
    await until(views.entered)
    exchange.gone.set()
    views.go_on.set()
    await running
    gc.collect()
    async with asyncio.timeout(TIMEOUT):
        while not views.registered[0].done():
            await asyncio.sleep(0.01)
    assert the_outcome().completion is Completion.DISCONNECTED


async def test_a_failing_view_under_asgi() -> None:
    views.todo.append(itself)
    exchange = Exchange("/fails")
    await exchange.run(get_asgi_application())
    assert exchange.sent[0]["status"] == 500
    assert isinstance(the_outcome().error, LookupError)
    assert the_outcome().status == 500


async def test_with_a_wrapper_outside_it_only_labels() -> None:
    seen: list[Any] = []

    def look() -> None:
        exchange = current_exchange.get()
        assert exchange is not None
        seen.append((exchange.request.path, exchange.response.status_code, exchange.error))

    views.todo.append(look)
    app = AfterResponseMiddleware(get_asgi_application(), hold=True)
    for path in ("/sync", "/async"):
        await Exchange(path).run(app)
    assert seen == [("/sync", 200, None), ("/async", 200, None)]
    [_, callback] = views.registered
    exchange: Any = callback._owner
    assert exchange.request is exchange.response is None  # promise 15


async def test_with_a_wrapper_outside_it_tells_what_a_view_raised() -> None:
    views.todo.append(itself)
    await Exchange("/fails").run(AfterResponseMiddleware(get_asgi_application(), hold=True))
    assert isinstance(the_outcome().error, LookupError)
    assert (the_outcome().status, the_outcome().completion) == (500, Completion.SENT)


async def test_a_sync_middleware_inside_the_async_one_still_has_the_exchange() -> None:
    views.todo.append(itself)
    with override_settings(
        MIDDLEWARE=[
            "tests.django.test_alone.sync_middleware",
            "async_after.django.AfterResponseMiddleware",
            "tests.django.test_alone.sync_middleware",
        ]
    ):
        await Exchange("/async").run(get_asgi_application())
    [callback] = views.registered
    assert callback.state is CallbackState.SUCCEEDED
    assert callback.outcome is not None
    assert callback.outcome.completion is Completion.SENT


def sync_middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda request: get_response(request)


# WSGI: until it has an adapter of its own, callbacks go to the runner's threads.


@pytest.fixture
def wsgi_url() -> Iterator[str]:
    class Handler(wsgiref.simple_server.WSGIRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    with (
        wsgiref.simple_server.make_server(
            "127.0.0.1", 0, get_wsgi_application(), handler_class=Handler
        ) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        serving = pool.submit(server.serve_forever, 0.01)
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.result(TIMEOUT)


async def test_wsgi_callbacks_run_in_threads_of_the_runner(wsgi_url: str) -> None:
    names: list[str] = []

    def s() -> None:
        names.append(threading.current_thread().name)

    async def a() -> None:
        await asyncio.sleep(0)
        await sync_to_async(s)()

    views.todo += [s, a, s]
    for path in ("/sync", "/async", "/stream", "/file"):
        if path == "/async":
            views.todo[:] = [itself]

        def get(path: str = path) -> None:
            with urlopen(wsgi_url + path, timeout=TIMEOUT) as response:
                response.read()

        await asyncio.to_thread(get)
        await get_runner().drain(TIMEOUT)
    assert [c.state for c in views.registered] == [CallbackState.SUCCEEDED] * 6
    assert [c.outcome.completion for c in views.registered if c.outcome] == [Completion.SENT] * 6
    assert len(names) == 3
    assert all(name.startswith("async_after worker") for name in names)


def test_outside_a_request() -> None:
    ran: list[int] = []
    with override_settings(ASYNC_AFTER={"OUTSIDE_REQUEST": "run"}):
        callback = after_response(ran.append, 1)
        assert ran == [1]
        assert callback.state is CallbackState.SUCCEEDED
