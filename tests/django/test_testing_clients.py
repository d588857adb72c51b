"""The testing tools with each client that a Django project is tested with."""

import importlib
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import (
    AsyncClient,
    Client,
    LiveServerTestCase,
    TestCase,
    TransactionTestCase,
    override_settings,
)
from django.urls import path

from async_after import CallbackState, Outcome, aafter_response, after_response
from async_after._core.registration import test_hook
from async_after.asgi import AfterResponseMiddleware
from async_after.testing import (
    capture_after_response,
    raise_callback_errors,
    suppress_after_response,
)
from tests.django.site import views
from tests.django.site.models import Row

ran: list[object] = []


def note(outcome: Outcome) -> None:
    """With the ORM, where the test's transaction is."""
    ran.append((outcome.path, Row.objects.count()))


async def anote(outcome: Outcome) -> None:
    ran.append((outcome.path, await Row.objects.acount()))


def fail() -> None:
    raise ValueError("the callback's")


def register(request: HttpRequest) -> None:
    for func in (note, anote):
        after_response.using(takes_outcome=True)(func)
    if "fail" in request.GET:
        after_response(fail)


def view(request: HttpRequest) -> HttpResponse:
    register(request)
    return HttpResponse("done")


async def async_view(request: HttpRequest) -> HttpResponse:
    for func in (note, anote):
        await aafter_response.using(takes_outcome=True)(func)
    if "fail" in request.GET:
        await aafter_response(fail)
    return HttpResponse("done")


def api_view(request: HttpRequest) -> HttpResponse:
    """One of Django REST framework's, which is imported when it is asked for."""
    decorators: Any = importlib.import_module("rest_framework.decorators")
    answers: Any = importlib.import_module("rest_framework.response")

    def answer(request: Any) -> Any:
        register(request)
        return answers.Response({"sent": request.data["name"]})

    response: HttpResponse = decorators.api_view(["POST"])(answer)(request)
    return response


urlpatterns = [path("sync", view), path("async", async_view), path("api", api_view)]

PATHS = ("/sync", "/async")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    ran.clear()
    yield
    assert test_hook.interceptors == ()


class Case(TestCase):
    """What callbacks see is a row that is never committed."""

    @classmethod
    def setUpTestData(cls) -> None:
        Row.objects.create(text="uncommitted")

    def setUp(self) -> None:
        ran.clear()


@override_settings(ROOT_URLCONF=__name__)
class WithClient(Case):
    def test_captured(self) -> None:
        for url in PATHS:
            with capture_after_response() as captured:
                self.client.get(url)
            assert [each.func for each in captured] == [note, anote]
            assert {each.callback.state for each in captured} == {CallbackState.SKIPPED}
        assert ran == []

    def test_executed(self) -> None:
        with capture_after_response(execute=True):
            for url in PATHS:
                self.client.get(url)
            assert ran == []
        assert ran == [("/sync", 1)] * 2 + [("/async", 1)] * 2
        assert connection.in_atomic_block

    def test_suppressed(self) -> None:
        with suppress_after_response():
            self.client.get("/sync?fail")
        assert ran == []

    def test_raised(self) -> None:
        for url in PATHS:
            with self.assertRaisesMessage(ValueError, "the callback's"), raise_callback_errors():
                self.client.get(f"{url}?fail")


@override_settings(ROOT_URLCONF=__name__)
class WithAsyncClient(Case):
    async def test_captured(self) -> None:
        for url in PATHS:
            with capture_after_response() as captured:
                await self.async_client.get(url)
            assert [each.func for each in captured] == [note, anote]
        assert ran == []

    async def test_executed(self) -> None:
        async with capture_after_response(execute=True):
            for url in PATHS:
                await self.async_client.get(url)
            assert ran == []
        assert ran == [("/sync", 1)] * 2 + [("/async", 1)] * 2

    async def test_suppressed(self) -> None:
        with suppress_after_response():
            await self.async_client.get("/async?fail")
        assert ran == []

    async def test_raised(self) -> None:
        for url in PATHS:
            with self.assertRaisesMessage(ValueError, "the callback's"):
                async with raise_callback_errors():
                    await self.async_client.get(f"{url}?fail")
            with self.assertRaisesMessage(ValueError, "the callback's"), raise_callback_errors():
                await self.async_client.get(f"{url}?fail")


@override_settings(ROOT_URLCONF=__name__)
class WithASGITransport(TransactionTestCase):
    """Through the wrapper and the whole ASGI handler, which closes connections
    as a server's: a TestCase would lose its transaction, with any library."""

    def setUp(self) -> None:
        ran.clear()
        Row.objects.create(text="committed")
        self.httpx = pytest.importorskip("httpx", reason="httpx.ASGITransport is the client")

    async def get(self, url: str) -> None:
        handler: Any = ASGIHandler()
        transport = self.httpx.ASGITransport(app=AfterResponseMiddleware(handler))
        async with self.httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            response = await client.get(url, headers={"Host": "testserver"})
        assert response.text == "done"

    async def test_captured(self) -> None:
        for url in PATHS:
            with capture_after_response() as captured:
                await self.get(url)
            assert [each.func for each in captured] == [note, anote]
        assert ran == []

    async def test_executed(self) -> None:
        async with capture_after_response(execute=True):
            for url in PATHS:
                await self.get(url)
            assert ran == []
        assert ran == [("/sync", 1)] * 2 + [("/async", 1)] * 2

    async def test_suppressed(self) -> None:
        with suppress_after_response():
            await self.get("/sync?fail")
        assert ran == []

    async def test_raised(self) -> None:
        with self.assertRaisesMessage(ValueError, "the callback's"):
            async with raise_callback_errors():
                await self.get("/sync?fail")


@override_settings(
    ROOT_URLCONF=__name__,
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
)
class WithAPIClient(Case):
    """Django REST framework's."""

    def setUp(self) -> None:
        super().setUp()
        pytest.importorskip("rest_framework", reason="djangorestframework has the client")
        clients: Any = importlib.import_module("rest_framework.test")
        self.api = clients.APIClient()

    def post(self, url: str = "/api") -> None:
        response = self.api.post(url, {"name": "x"}, format="json")
        assert response.json() == {"sent": "x"}

    def test_captured(self) -> None:
        with capture_after_response() as captured:
            self.post()
        assert [each.func for each in captured] == [note, anote]
        assert ran == []

    def test_executed(self) -> None:
        with capture_after_response(execute=True):
            self.post()
            assert ran == []
        assert ran == [("/api", 1)] * 2

    def test_suppressed(self) -> None:
        with suppress_after_response():
            self.post("/api?fail")
        assert ran == []

    def test_raised(self) -> None:
        with self.assertRaisesMessage(ValueError, "the callback's"), raise_callback_errors():
            self.post("/api?fail")


@override_settings(ROOT_URLCONF=__name__, STATIC_URL="/static/")
class WithLiveServer(LiveServerTestCase):
    """A server in another thread, whose callbacks run on the runner's threads."""

    def setUp(self) -> None:
        ran.clear()

    def get(self, url: str) -> None:
        with urllib.request.urlopen(self.live_server_url + url, timeout=10) as response:
            assert response.read() == b"done"

    def test_captured(self) -> None:
        for url in PATHS:
            with capture_after_response() as captured:
                self.get(url)
            assert [each.func for each in captured] == [note, anote]
        assert ran == []

    def test_executed(self) -> None:
        for _ in range(10):
            with capture_after_response(execute=True):
                for url in PATHS:
                    self.get(url)
                assert ran == []
            assert ran == [("/sync", 0)] * 2 + [("/async", 0)] * 2
            ran.clear()

    def test_suppressed(self) -> None:
        with suppress_after_response():
            self.get("/sync?fail")
        assert ran == []

    def test_raised(self) -> None:
        with raise_callback_errors():
            self.get("/sync")
        assert ran == [("/sync", 0)] * 2
        with self.assertRaisesMessage(ValueError, "the callback's"), raise_callback_errors():
            self.get("/sync?fail")


# Streams, with Django's clients.


def test_a_stream_that_is_read_inside_the_block() -> None:
    views.todo.append(lambda outcome: ran.append(outcome.body_bytes))
    with capture_after_response(execute=True):
        response: Any = Client().get("/stream")
        assert response.getvalue() == b"onetwo"
        assert ran == []
    assert ran == [6]


async def test_an_async_stream_that_is_read_inside_the_block() -> None:
    views.todo.append(lambda outcome: ran.append(outcome.body_bytes))
    async with capture_after_response(execute=True):
        response: Any = await AsyncClient().get("/astream")
        assert b"".join([part async for part in response.streaming_content]) == b"onetwo"
    assert ran == [6]


def test_a_stream_that_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("async_after.testing.execution.END_TIMEOUT", 0.1)
    views.todo.append(ran.append)
    with (  # noqa: PT012
        pytest.raises(RuntimeError, match="read a streamed response to its end"),
        capture_after_response(execute=True),
    ):
        response: Any = Client().get("/stream")
        steps = iter(response.streaming_content)
        assert [next(steps), next(steps)] == [b"one", b"two"]
    response.close()
    assert ran == []
