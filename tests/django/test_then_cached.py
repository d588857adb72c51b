"""Responses with a ``then`` that a cache pickles: a cache hit runs nothing."""

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template import engines
from django.template.response import TemplateResponse
from django.test import Client, override_settings
from django.urls import path
from django.views.decorators.cache import cache_page

from async_after import exchange_scope
from async_after.django import (
    FileResponseThen,
    HttpResponseThen,
    JsonResponseThen,
    StreamingHttpResponseThen,
    ThenMixin,
    then,
)

OURS = "async_after.django.AfterResponseMiddleware"
UPDATE = "django.middleware.cache.UpdateCacheMiddleware"
FETCH = "django.middleware.cache.FetchFromCacheMiddleware"
BACKENDS = ["locmem.LocMemCache", "filebased.FileBasedCache"]

ran: list[int] = []


class TemplateResponseThen(ThenMixin, TemplateResponse):
    """Rendered, and so cached, when the view has returned."""


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponseThen(b"plain", then=lambda: ran.append(1))


async def aplain(request: HttpRequest) -> HttpResponse:
    async def run() -> None:
        ran.append(1)

    return HttpResponseThen(b"aplain", then=run)


def json(request: HttpRequest) -> HttpResponse:
    return JsonResponseThen({"a": 1}, then=lambda: ran.append(1))


def function(request: HttpRequest) -> HttpResponse:
    return then(HttpResponse(b"function"), lambda: ran.append(1))


def template(request: HttpRequest) -> HttpResponse:
    source = engines["django"].from_string("template")
    return TemplateResponseThen(request, source, then=lambda: ran.append(1))


def stream(request: HttpRequest) -> HttpResponseBase:
    """Django caches none of these."""
    return StreamingHttpResponseThen(iter([b"stream"]), then=lambda: ran.append(1))


def file(request: HttpRequest) -> HttpResponseBase:
    return FileResponseThen(Path(__file__).open("rb"), then=lambda: ran.append(1))


CACHED: list[Callable[..., Any]] = [plain, aplain, json, function, template]
NEVER_CACHED: list[Callable[..., Any]] = [stream, file]
VIEWS = [*CACHED, *NEVER_CACHED]

urlpatterns = [
    *(path(view.__name__, view) for view in VIEWS),
    *(path(f"cached/{view.__name__}", cache_page(60)(view)) for view in VIEWS),
]


@pytest.fixture(params=BACKENDS, autouse=True)
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    ran.clear()
    backend = {
        "BACKEND": f"django.core.cache.backends.{request.param}",
        "LOCATION": str(tmp_path),
    }
    templates = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
    with override_settings(ROOT_URLCONF=__name__, CACHES={"default": backend}, TEMPLATES=templates):
        yield
        caches["default"].clear()


def ask_twice(target: str) -> bytes:
    bodies = []
    for _ in range(2):
        response: Any = Client().get(target)
        assert response.status_code == 200
        bodies.append(b"".join(response))
        response.close()
    assert bodies[0] == bodies[1]
    return bodies[0]


@pytest.mark.parametrize("view", CACHED)
def test_a_page_from_the_cache_runs_nothing(view: Callable[..., Any]) -> None:
    ask_twice(f"/cached/{view.__name__}")
    assert ran == [1]


@pytest.mark.parametrize("view", NEVER_CACHED)
def test_what_django_does_not_cache_runs_it_each_time(view: Callable[..., Any]) -> None:
    ask_twice(f"/cached/{view.__name__}")
    assert ran == [1, 1]


@pytest.mark.parametrize("view", CACHED)
@pytest.mark.parametrize(
    "middleware", [[UPDATE, OURS, FETCH], [OURS, UPDATE, FETCH]], ids=["outside", "inside"]
)
def test_a_response_from_the_cache_of_the_site_runs_nothing(
    middleware: list[str], view: Callable[..., Any]
) -> None:
    with override_settings(MIDDLEWARE=middleware):
        ask_twice(f"/{view.__name__}")
    assert ran == [1]


@pytest.mark.parametrize("view", [plain, json, function])
def test_a_copy_runs_nothing(view: Callable[[HttpRequest], HttpResponse]) -> None:
    with exchange_scope():
        response = view(HttpRequest())
        copies: list[HttpResponse] = [
            pickle.loads(pickle.dumps(response)),
            copy.copy(response),
            copy.deepcopy(response),
        ]
    assert ran == [1]
    for copied in copies:
        assert type(copied) is type(response)
        assert copied.content == response.content
        copied.close()
    assert ran == [1]
