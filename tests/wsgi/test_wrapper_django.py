"""Django under WSGI: the middleware alone, and below the wrapper. The same views."""

import io
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from wsgiref.util import FileWrapper

import django
import pytest
from a2wsgi import WSGIMiddleware
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import Client, override_settings
from django.urls import path
from django.utils import translation
from django.views.decorators.http import etag

from async_after import Callback, Completion, Outcome, after_response, asgi, get_runner
from async_after._core.exchange import KEY, current_exchange
from async_after.django import AfterResponseMiddleware as DjangoMiddleware
from async_after.wsgi import AfterResponseMiddleware

from .wsgi_client import DEADLINE, App, Call, drain, ended, environ_for

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.site.settings")
django.setup()

SENT, DISCONNECTED, FAILED = Completion.SENT, Completion.DISCONNECTED, Completion.FAILED
registered: list[Callback[Any]] = []
seen: list[tuple[Outcome, threading.Thread]] = []
exchanges: list[Any] = []


def note(outcome: Outcome) -> None:
    seen.append((outcome, threading.current_thread()))


def register() -> None:
    exchanges.append(current_exchange.get())
    registered.append(after_response.using(takes_outcome=True)(note))


def plain(request: HttpRequest) -> HttpResponse:
    register()
    response = HttpResponse("plain", headers={"X-View": "plain"})
    response.set_cookie("a", "1")
    return response


async def coroutine(request: HttpRequest) -> HttpResponse:
    register()
    return HttpResponse("coroutine")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        register()
        yield b"one"
        register()
        yield b"two"

    response = StreamingHttpResponse(parts())
    if "length" in request.GET:
        response["Content-Length"] = "6"
    return response


def astream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        register()
        yield b"one"
        yield b"two"

    return StreamingHttpResponse(parts())


def broken_stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        register()
        yield b"one"
        raise LookupError("broken")

    return StreamingHttpResponse(parts())


def file(request: HttpRequest) -> FileResponse:
    register()
    return FileResponse(io.BytesIO(b"x" * 10_000))


def fails(request: HttpRequest) -> HttpResponse:
    register()
    raise LookupError("fails")


def missing(request: HttpRequest) -> HttpResponse:
    register()
    raise Http404


@etag(lambda request: '"etag"')
def never(request: HttpRequest) -> HttpResponse:
    raise AssertionError


def tagged(request: HttpRequest) -> HttpResponse:
    register()
    return HttpResponse("tagged", headers={"ETag": '"etag"'})


def french(request: HttpRequest) -> HttpResponse:
    def plain_one() -> str:
        return translation.get_language()

    async def async_one() -> str:
        return translation.get_language()

    with translation.override("fr"):
        registered.extend([after_response(plain_one), after_response(async_one)])
    return HttpResponse("ok")


def closing(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("closing")
    response._resource_closers.append(register)  # type: ignore[attr-defined]
    return response


urlpatterns = [
    path("plain", plain),
    path("coroutine", coroutine),
    path("stream", stream),
    path("astream", astream),
    path("broken", broken_stream),
    path("file", file),
    path("fails", fails),
    path("missing", missing),
    path("tagged", tagged),
    path("french", french),
    path("closing", closing),
]

OURS = "async_after.django.AfterResponseMiddleware"
OTHERS = ["django.middleware.http.ConditionalGetMiddleware"]
Make = Callable[[], App]


def alone() -> App:
    return WSGIHandler()


def both() -> App:
    return AfterResponseMiddleware(WSGIHandler())


def wrapped() -> App:
    with override_settings(MIDDLEWARE=OTHERS):
        return AfterResponseMiddleware(WSGIHandler())


WAYS = pytest.mark.parametrize("make", [alone, both, wrapped])
LANES = pytest.mark.parametrize("lane", ["threads", "inline"])


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    for each in (registered, seen, exchanges):
        each.clear()
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[OURS, *OTHERS]):
        yield
    drain(get_runner())


@pytest.fixture
def lane(request: pytest.FixtureRequest) -> Iterator[str]:
    with override_settings(ASYNC_AFTER={"WSGI_LANE": request.param}):
        yield request.param


def through(make: Make, where: str, **environ: Any) -> Call:
    call = Call(make(), environ_for(where, **environ)).run()
    drain(get_runner())
    ended(*registered)
    return call


def the_outcome() -> Outcome:
    assert seen
    assert all(outcome is seen[0][0] for outcome, _ in seen)
    return seen[0][0]


@WAYS
@pytest.mark.parametrize("lane", ["threads", "inline"], indirect=True)
@pytest.mark.parametrize(
    ("where", "size"), [("/plain", 5), ("/coroutine", 9), ("/stream", 6), ("/tagged", 6)]
)
def test_views(where: str, size: int, make: Make, lane: str) -> None:
    call = through(make, where)
    outcome = the_outcome()
    assert len(call.content) == size
    assert (outcome.completion, outcome.status, outcome.body_bytes) == (SENT, 200, size)
    assert (outcome.method, outcome.path, outcome.error) == ("GET", where, None)
    is_here = seen[0][1] is threading.current_thread()
    assert is_here is (lane == "inline")


@WAYS
def test_headers(make: Make) -> None:
    through(make, "/plain")
    headers = the_outcome().headers
    assert ("x-view", "plain") in headers
    # Before 6.0, Django puts a space before it.
    assert any(name == "set-cookie" and value.strip().startswith("a=1") for name, value in headers)


@WAYS
@pytest.mark.parametrize("lane", ["threads", "inline"], indirect=True)
def test_an_async_stream(make: Make, lane: str) -> None:
    """Under WSGI, Django makes a list of it, and warns."""
    with pytest.warns(Warning, match="must consume asynchronous iterators"):
        call = through(make, "/astream")
    assert call.content == b"onetwo"
    assert (the_outcome().completion, the_outcome().body_bytes) == (SENT, 6)


@WAYS
@pytest.mark.parametrize("lane", ["threads", "inline"], indirect=True)
@pytest.mark.parametrize("steps", [1, 2])
def test_a_cut_stream(steps: int, make: Make, lane: str) -> None:
    call = Call(make(), environ_for("/stream")).begin()
    for _ in range(steps):
        call.step()
    call.close()
    drain(get_runner())
    assert (the_outcome().completion, the_outcome().body_bytes) == (DISCONNECTED, 3 * steps)
    assert len(seen) == steps


@WAYS
def test_all_bytes_were_sent_though_nobody_asked_for_the_end(make: Make) -> None:
    call = Call(make(), environ_for("/stream", QUERY_STRING="length")).begin()
    call.step()
    call.step()
    call.close()
    drain(get_runner())
    assert the_outcome().completion is SENT


@WAYS
def test_a_broken_stream(make: Make) -> None:
    with pytest.raises(LookupError):
        Call(make(), environ_for("/broken")).run()
    drain(get_runner())
    assert the_outcome().completion is FAILED
    assert isinstance(the_outcome().error, LookupError)


@WAYS
@pytest.mark.parametrize("lane", ["threads", "inline"], indirect=True)
def test_a_file_that_the_server_sends(make: Make, lane: str) -> None:
    environ = environ_for("/file", **{"wsgi.file_wrapper": FileWrapper})
    call = Call(make(), environ).begin()
    body: Any = call.body
    assert type(body) is FileWrapper
    assert type(body.filelike) is io.BytesIO
    assert seen == []
    call.close()
    drain(get_runner())
    assert (the_outcome().completion, the_outcome().body_bytes) == (SENT, None)


@WAYS
def test_a_file_that_is_iterated(make: Make) -> None:
    assert len(through(make, "/file").content) == 10_000
    assert (the_outcome().completion, the_outcome().body_bytes) == (SENT, 10_000)


@WAYS
def test_a_file_that_is_cut(make: Make) -> None:
    call = Call(make(), environ_for("/file")).begin()
    call.step()
    call.close()
    drain(get_runner())
    assert (the_outcome().completion, the_outcome().body_bytes) == (DISCONNECTED, 4096)


@pytest.mark.parametrize("make", [alone, both])
@pytest.mark.parametrize("lane", ["threads", "inline"], indirect=True)
def test_a_view_that_raises(make: Make, lane: str) -> None:
    call = through(make, "/fails")
    assert call.status == "500 Internal Server Error"
    outcome = the_outcome()
    assert (outcome.completion, outcome.status) == (SENT, 500)
    assert isinstance(outcome.error, LookupError)


@WAYS
@pytest.mark.parametrize("lane", ["threads", "inline"], indirect=True)
@override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True)
def test_an_error_that_leaves_django(make: Make, lane: str) -> None:
    with pytest.raises(LookupError) as raised:
        Call(make(), environ_for("/fails")).run()
    drain(get_runner())
    outcome = the_outcome()
    assert (outcome.completion, outcome.status, outcome.error) == (FAILED, None, raised.value)


@WAYS
def test_not_found(make: Make) -> None:
    through(make, "/missing")
    assert (the_outcome().status, the_outcome().completion) == (404, SENT)


@WAYS
@pytest.mark.parametrize("lane", ["threads", "inline"], indirect=True)
def test_a_replaced_response(make: Make, lane: str) -> None:
    """A middleware inside answers 304 instead: the callbacks belong to the exchange."""
    call = through(make, "/tagged", HTTP_IF_NONE_MATCH='"etag"')
    assert call.status == "304 Not Modified"
    outcome = the_outcome()
    assert (outcome.completion, outcome.status, outcome.body_bytes) == (SENT, 304, 0)


@WAYS
@pytest.mark.parametrize("where", ["/plain", "/file", "/tagged"])
@pytest.mark.parametrize("is_iterated", [True, False])
def test_head(where: str, is_iterated: bool, make: Make) -> None:
    call = Call(make(), environ_for(where, "HEAD")).begin()
    if is_iterated:
        call.pull()
    call.close()
    drain(get_runner())
    assert (the_outcome().completion, the_outcome().body_bytes) == (SENT, 0)


@WAYS
def test_registering_in_close(make: Make) -> None:
    """Each closer of the response runs inside the exchange."""
    call = through(make, "/closing")
    assert exchanges == [call.environ[KEY]]
    assert the_outcome().completion is SENT


@WAYS
@pytest.mark.parametrize("lane", ["threads", "inline"], indirect=True)
def test_the_language(make: Make, lane: str) -> None:
    through(make, "/french")
    assert [callback.result() for callback in registered] == ["fr", "fr"]
    assert translation.get_language() != "fr"


@WAYS
def test_one_exchange(make: Make) -> None:
    call = through(make, "/stream")
    assert exchanges == [call.environ[KEY]] * 2


def test_request_and_response_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the wrapper, the Django middleware tells the exchange which they are."""
    told: list[Any] = []

    def look(outcome: Outcome) -> None:
        exchange: Any = current_exchange.get()
        told.append((exchange.request.path, exchange.response.status_code, outcome.error))

    app = AfterResponseMiddleware(WSGIHandler(), callbacks=[look])
    for where in ("/plain", "/fails", "/missing"):
        call = Call(app, environ_for(where)).run()
        drain(get_runner())
        exchange = call.environ[KEY]
        assert exchange.request is exchange.response is None  # promise 15
    assert [entry[:2] for entry in told] == [("/plain", 200), ("/fails", 500), ("/missing", 404)]
    assert [type(entry[2]).__name__ for entry in told] == ["NoneType", "LookupError", "Http404"]


def test_djangos_client_is_inline_whatever_the_setting() -> None:
    for lane in ("threads", "inline"):
        with override_settings(ASYNC_AFTER={"WSGI_LANE": lane}):
            for where in ("/plain", "/coroutine", "/tagged"):
                seen.clear()
                Client().get(where)
                assert the_outcome().completion is SENT
                assert seen[0][1] is threading.current_thread()


def test_djangos_client_in_a_view_of_a_wrapped_app() -> None:
    """An exchange of its own, ended when it returns; that of the view is back."""
    states: list[object] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        mine = current_exchange.get()
        Client().get("/plain")
        states.append(registered[0].done())
        assert current_exchange.get() is mine
        start_response("200 OK", [])
        return []

    call = Call(AfterResponseMiddleware(app)).run()
    assert states == [True]
    assert exchanges[0] is not call.environ[KEY]


def test_a_wrong_lane_is_refused_at_start_up() -> None:
    with (
        override_settings(ASYNC_AFTER={"WSGI_LANE": "thread"}),
        pytest.raises(ImproperlyConfigured, match="WSGI_LANE"),
    ):
        DjangoMiddleware(lambda request: None)


@WAYS
def test_the_same_thread_serves_the_next(make: Make) -> None:
    """Nothing of an exchange stays in the server's thread, whatever became of it."""
    app = make()
    for where in ("/plain", "/fails", "/stream", "/file", "/missing", "/plain"):
        Call(app, environ_for(where)).run()
        assert current_exchange.get() is None
    drain(get_runner())
    assert len({id(exchange) for exchange in exchanges}) == 6


async def test_the_middleware_alone_below_a2wsgi_and_the_asgi_wrapper() -> None:
    """One exchange: a2wsgi hands the scope on."""
    django_app: Any = WSGIHandler()
    below: Any = WSGIMiddleware(django_app)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/plain",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
    }
    await asgi.AfterResponseMiddleware(below)(scope, receive, send)
    await get_runner().drain(DEADLINE)
    assert not sent[-1].get("more_body", False)
    assert type(exchanges[0]).__name__ == "AsgiExchange"
    assert the_outcome().body_bytes == 5
