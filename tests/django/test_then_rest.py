"""``class ResponseThen(ThenMixin, rest_framework.response.Response)``, as the README has it.

Such a response is rendered after the view has returned, and pickles itself.
"""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.http import HttpRequest
from django.test import override_settings
from django.urls import path
from django.views.decorators.cache import cache_page
from rest_framework.decorators import (
    api_view,
    authentication_classes,
    permission_classes,
    renderer_classes,
)
from rest_framework.exceptions import Throttled
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import IntegerField, Serializer
from rest_framework.test import APIClient
from rest_framework.views import APIView

from async_after import Completion, NoActiveExchange, Outcome, exchange_scope
from async_after.django import ThenMixin, response_finished, then

from . import ways
from .test_then_cached import BACKENDS
from .ways import Way

ran: list[object] = []


class ResponseThen(ThenMixin, Response):
    pass


class Order(Serializer[Any]):
    number = IntegerField()


class Orders(APIView):
    authentication_classes = ()
    permission_classes = ()
    renderer_classes = (JSONRenderer,)

    def get(self, request: Request) -> Response:
        return ResponseThen({"order": 1}, headers={"X-Order": "1"}, then=lambda: ran.append("get"))

    def post(self, request: Request) -> Response:
        order = Order(data=request.data)
        order.is_valid(raise_exception=True)

        async def tell() -> None:
            ran.append(order.validated_data["number"])

        return ResponseThen(order.data, status=201, then=tell)

    def put(self, request: Request) -> Response:
        ResponseThen(None, then=lambda: ran.append("put"))
        raise Throttled

    def delete(self, request: Request) -> Response:
        return then(Response(status=204), ran.append, "delete")


@api_view(["GET"])
@authentication_classes([])
@permission_classes([])
@renderer_classes([JSONRenderer])
def function(request: Request) -> Response:
    return ResponseThen(["function"], then=lambda: ran.append("function"))


urlpatterns = [
    path("orders", Orders.as_view()),
    path("function", function),
    path("cached", cache_page(60)(Orders.as_view())),
]


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    ran.clear()
    with override_settings(ROOT_URLCONF=__name__, REST_FRAMEWORK={"UNAUTHENTICATED_USER": None}):
        yield


@ways.ALL
@pytest.mark.parametrize(
    ("target", "body", "expected"),
    [("/orders", b'{"order":1}', "get"), ("/function", b'["function"]', "function")],
)
async def test_it_runs_after_the_response(
    way: Way, target: str, body: bytes, expected: str
) -> None:
    assert await way(target) == body
    assert ran == [expected]


def test_through_the_client_of_rest_framework() -> None:
    client = APIClient()
    response = client.get("/orders")
    assert (response.status_code, response["X-Order"]) == (200, "1")
    assert response.data == response.json() == {"order": 1}
    response = client.post("/orders", {"number": 3}, format="json")
    assert (response.status_code, response.json()) == (201, {"number": 3})
    assert client.delete("/orders").status_code == 204
    assert ran == ["get", 3, "delete"]


def test_an_error_of_the_view_is_a_response_too() -> None:
    client = APIClient()
    assert client.post("/orders", {"number": "three"}, format="json").status_code == 400
    assert ran == []
    assert client.put("/orders").status_code == 429
    assert ran == ["put"]


def test_the_signal_has_the_rendered_response() -> None:
    heard: list[tuple[bytes, Completion]] = []

    def hear(response: Any, outcome: Outcome, **kwargs: Any) -> None:
        heard.append((response.content, outcome.completion))

    response_finished.connect(hear)
    APIClient().get("/orders")
    assert heard == [(b'{"order":1}', Completion.SENT)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_page_from_the_cache_runs_nothing(backend: str, tmp_path: Path) -> None:
    cache = {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": str(tmp_path)}
    with override_settings(CACHES={"default": cache}):
        for _ in range(2):
            response = APIClient().get("/cached")
            assert (response.content, response["X-Order"]) == (b'{"order":1}', "1")
        caches["default"].clear()
    assert ran == ["get"]


def test_a_copy_runs_nothing() -> None:
    request = HttpRequest()
    request.method = "GET"
    view: Callable[[HttpRequest], Any] = Orders.as_view()
    with exchange_scope():
        response = view(request).render()
    assert ran == ["get"]
    stored = pickle.loads(pickle.dumps(response))
    assert type(stored) is ResponseThen
    assert (stored.content, stored.data) == (b'{"order":1}', {"order": 1})
    stored.close()
    assert ran == ["get"]


def test_what_is_refused() -> None:
    not_callable: Any = {"order": 1}
    with exchange_scope():
        with pytest.raises(TypeError, match="needs a callable, not dict"):
            ResponseThen({}, then=not_callable)
        with pytest.raises(AssertionError, match="Serializer instance"):
            ResponseThen(Order(), then=lambda: ran.append("never"))
    with pytest.raises(NoActiveExchange):
        ResponseThen({}, then=lambda: ran.append("never"))
    assert ran == []
