"""``then``, ``ThenMixin`` and the response classes: registered on the exchange,
and nothing of it on the response."""

import asyncio
import functools
import gc
import io
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, assert_type

import pytest
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.template import engines
from django.template.response import TemplateResponse
from django.test import RequestFactory, override_settings
from django.urls import path

from async_after import Callback, NoActiveExchange, after_response, exchange_scope, get_runner
from async_after.django import (
    FileResponseThen,
    HttpResponseThen,
    JsonResponseThen,
    StreamingHttpResponseThen,
    ThenMixin,
    then,
)

from . import ways
from .ways import Way

pytestmark = [
    # Each stream goes through handlers of both kinds.
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning"),
    pytest.mark.usefixtures("site_of_then"),
]

order: list[str] = []
"""What has happened in this test."""


@pytest.fixture
def site_of_then() -> Iterator[None]:
    order.clear()
    templates = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
    with override_settings(ROOT_URLCONF=__name__, TEMPLATES=templates):
        yield


def note(what: str = "then") -> None:
    order.append(what)


async def anote(what: str = "then") -> None:
    await asyncio.sleep(0)
    note(what)


NOTES: list[Any] = [note, anote, functools.partial(note), lambda: note(), lambda: anote()]


class TemplateResponseThen(ThenMixin, TemplateResponse):
    """A class of the user's own."""


def parts() -> Iterator[bytes]:
    yield b"one"
    note("body")
    yield b"two"


async def aparts() -> AsyncIterator[bytes]:
    yield b"one"
    await asyncio.sleep(0)
    note("body")
    yield b"two"


Make = Callable[[HttpRequest, Any], HttpResponseBase]

MAKERS: dict[str, tuple[Make, bytes]] = {
    "plain": (lambda request, func: HttpResponseThen(b"plain", then=func), b"plain"),
    "json": (lambda request, func: JsonResponseThen({"a": 1}, then=func), b'{"a": 1}'),
    "stream": (lambda request, func: StreamingHttpResponseThen(parts(), then=func), b"onetwo"),
    "astream": (lambda request, func: StreamingHttpResponseThen(aparts(), then=func), b"onetwo"),
    "file": (lambda request, func: FileResponseThen(io.BytesIO(b"file"), then=func), b"file"),
    "template": (
        lambda request, func: TemplateResponseThen(
            request, engines["django"].from_string("Hello {{ name }}"), {"name": "you"}, then=func
        ),
        b"Hello you",
    ),
    "function": (lambda request, func: then(HttpResponse(b"function"), func), b"function"),
}


def view(request: HttpRequest, maker: str, number: int) -> HttpResponseBase:
    response = MAKERS[maker][0](request, NOTES[number])
    note("view")
    return response


async def aview(request: HttpRequest, maker: str, number: int) -> HttpResponseBase:
    await asyncio.sleep(0)
    return view(request, maker, number)


def arguments(request: HttpRequest) -> HttpResponse:
    response = then(HttpResponse(b"twice"), note, "first")
    return then(then(response, anote, what="second"), order.append, "third")


def raises(request: HttpRequest) -> HttpResponse:
    HttpResponseThen(b"never sent", then=note)
    raise LookupError("this view raises")


urlpatterns = [
    path("sync/<maker>/<int:number>", view),
    path("async/<maker>/<int:number>", aview),
    path("arguments", arguments),
    path("raises", raises),
]


# It runs after the response.


@ways.ALL
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("maker", MAKERS)
async def test_it_runs_after_the_response(way: Way, kind: str, maker: str) -> None:
    for number in (0, 1):
        order.clear()
        assert await way(f"/{kind}/{maker}/{number}") == MAKERS[maker][1]
        body = ["body"] if maker.endswith("stream") else []
        assert order == ["view", *body, "then"]


@pytest.mark.parametrize("number", range(len(NOTES)))
async def test_any_callable_without_arguments(number: int) -> None:
    await ways.asgi_wrapped(f"/sync/plain/{number}")
    assert order == ["view", "then"]


@ways.ALL
async def test_the_function_takes_arguments_and_keeps_the_order(way: Way) -> None:
    assert await way("/arguments") == b"twice"
    assert order == ["first", "second", "third"]


@ways.ALL
async def test_it_belongs_to_the_exchange_not_to_the_response(way: Way) -> None:
    """As ``after_response``: it survives that the response is not the one that is sent."""
    await way("/raises")
    assert order == ["then"]


# The classes are those of Django.


@pytest.mark.parametrize(
    ("kind", "plain", "body"),
    [
        (HttpResponseThen, HttpResponse, lambda: "x"),
        (JsonResponseThen, JsonResponse, lambda: {"a": 1}),
        (StreamingHttpResponseThen, StreamingHttpResponse, parts),
        (FileResponseThen, FileResponse, lambda: io.BytesIO(b"x")),
    ],
)
def test_nothing_stays_on_the_response(
    kind: Any, plain: type[HttpResponseBase], body: Callable[[], object]
) -> None:
    with exchange_scope():
        response = kind(body(), status=201, then=note)
        assert isinstance(response, plain)
        assert response.status_code == 201
        expected: Any = plain
        assert vars(response).keys() == vars(expected(body(), status=201)).keys()
        assert "note" not in repr(vars(response))


def test_without_then_nothing_is_registered() -> None:
    before = get_runner().statistics().registered
    with exchange_scope():
        assert HttpResponseThen(b"x", status=201).status_code == 201
        assert JsonResponseThen({}, then=None).content == b"{}"
    assert get_runner().statistics().registered == before


def test_the_callable_is_dropped_when_it_has_run() -> None:
    """Though the response lives on."""

    def function() -> None:
        order.append("then")

    found = weakref.ref(function)
    with exchange_scope():
        response = HttpResponseThen(b"x", then=function)
        del function
    gc.collect()
    assert found() is None
    assert response.content == b"x"
    assert order == ["then"]


def test_the_types_are_kept() -> None:
    """For the type checker; ``then`` gives back what it was given."""
    with exchange_scope():
        response = JsonResponse({})
        returned = then(response, note, "first")
        assert_type(returned, JsonResponse)
        assert_type(then(HttpResponseThen(b""), anote, what="second"), HttpResponseThen)
        assert_type(then(FileResponse(io.BytesIO()), order.append, "third"), FileResponse)
    assert returned is response
    assert order == ["first", "second", "third"]


# What is refused.


class Made(HttpResponse):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        note("made")
        super().__init__(*args, **kwargs)


class MadeThen(ThenMixin, Made):
    pass


def _generator() -> Iterator[None]:
    yield


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "not callable": (lambda: "text", "needs a callable, not str"),
    "coroutine object": (lambda: anote(), r"got the coroutine object anote\(...\). Pass the func"),
    "generator": (lambda: _generator, "cannot run the generator function"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_before_the_response_is_made(name: str) -> None:
    make, message = REFUSED[name]
    before = get_runner().statistics().registered
    with exchange_scope():
        with pytest.raises(TypeError, match=message):
            MadeThen(b"x", then=make())
        with pytest.raises(TypeError, match=message):
            then(HttpResponse(), make())
    assert order == []
    assert get_runner().statistics().registered == before


def test_then_of_what_is_no_response() -> None:
    something: Any = note
    with exchange_scope(), pytest.raises(TypeError, match="one of Django's, not function"):
        then(something, note)
    assert order == []


def test_a_response_that_cannot_be_made_cancels_it() -> None:
    cancelled = get_runner().statistics().cancelled
    not_a_dict: Any = [1, 2]
    with exchange_scope():
        after_response(note, "another")
        with pytest.raises(TypeError, match="safe"):
            JsonResponseThen(not_a_dict, then=note)
        with pytest.raises(TypeError, match="safe"):
            JsonResponseThen(not_a_dict)
    assert order == ["another"]
    assert get_runner().statistics().cancelled == cancelled + 1


def test_the_mixin_stands_first() -> None:
    class TheOtherWayRound(HttpResponse, ThenMixin):
        pass

    loose: Any = TheOtherWayRound
    with exchange_scope(), pytest.raises(TypeError, match="then"):
        loose(b"x", then=note)


# Outside of an exchange.


def test_outside_of_an_exchange_the_one_rule_applies() -> None:
    request = RequestFactory().get("/")
    for maker in MAKERS:
        with pytest.raises(NoActiveExchange, match="exchange_scope"):
            view(request, maker, 0)
    with pytest.raises(NoActiveExchange):
        MadeThen(b"x", then=note)
    assert order == []


@override_settings(ASYNC_AFTER={"OUTSIDE_REQUEST": "run"})
def test_outside_of_an_exchange_it_may_run_at_once() -> None:
    request = RequestFactory().get("/")
    for maker in MAKERS:
        response = view(request, maker, 0)
        response.close()
    assert order == ["then", "view"] * len(MAKERS)


# Late.


async def test_a_task_that_has_outlived_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its response is sent by nobody; what it registers runs all the same."""
    go_on = asyncio.Event()
    tasks: list[asyncio.Task[HttpResponse]] = []
    callbacks: list[Callback[Any]] = []

    async def outlive() -> HttpResponse:
        await go_on.wait()
        callbacks.append(after_response(note, "before"))
        return HttpResponseThen(b"nobody's", then=anote)

    async def start(request: HttpRequest) -> HttpResponse:
        tasks.append(asyncio.create_task(outlive()))
        return HttpResponse(b"sent")

    monkeypatch.setattr(f"{__name__}.urlpatterns", [path("start", start)])
    with override_settings(ROOT_URLCONF=__name__):
        assert await ways.asgi_wrapped("/start") == b"sent"
    go_on.set()
    assert (await tasks[0]).content == b"nobody's"
    await get_runner().drain(10)
    assert order == ["before", "then"]
