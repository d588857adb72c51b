"""Django's test clients: callbacks run inline, inside the test's transaction."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.http import HttpRequest
from django.test import (
    AsyncClient,
    AsyncRequestFactory,
    Client,
    RequestFactory,
    TestCase,
    override_settings,
)

from async_after import CallbackState, Completion, NoActiveExchange, Outcome, after_response
from async_after._core.exchange import current_exchange
from async_after.django import AfterResponseMiddleware
from async_after.django.handlers import is_from_test_client
from tests.django.site import views
from tests.django.site.models import Row


def _seen() -> int:
    """Whether a callback sees the uncommitted row, in the test's own transaction."""
    assert connection.in_atomic_block
    return Row.objects.filter(text="uncommitted").count()


async def _aseen() -> int:
    return await Row.objects.filter(text="uncommitted").acount()


class ClientsSeeTheTransaction(TestCase):
    """Client and AsyncClient, sync and async view, sync and async callback."""

    @classmethod
    def setUpTestData(cls) -> None:
        Row.objects.create(text="uncommitted")

    def _check(self) -> None:
        [callback] = views.registered
        assert callback.result() == 1
        # Nothing was closed under the test.
        assert Row.objects.filter(text="uncommitted").exists()
        assert current_exchange.get() is None

    def _sync(self, path: str, func: Any) -> None:
        views.todo.append(func)
        self.client.get(path)
        self._check()

    async def _async(self, path: str, func: Any) -> None:
        views.todo.append(func)
        await self.async_client.get(path)
        await sync_to_async(self._check)()

    def test_client_sync_view_sync_callback(self) -> None:
        self._sync("/sync", _seen)

    def test_client_sync_view_async_callback(self) -> None:
        self._sync("/sync", _aseen)

    def test_client_async_view_sync_callback(self) -> None:
        self._sync("/async", _seen)

    def test_client_async_view_async_callback(self) -> None:
        self._sync("/async", _aseen)

    async def test_async_client_sync_view_sync_callback(self) -> None:
        await self._async("/sync", _seen)

    async def test_async_client_sync_view_async_callback(self) -> None:
        await self._async("/sync", _aseen)

    async def test_async_client_async_view_sync_callback(self) -> None:
        await self._async("/async", _seen)

    async def test_async_client_async_view_async_callback(self) -> None:
        await self._async("/async", _aseen)


def _outcome() -> Outcome:
    [callback] = views.registered
    outcome = callback.result()
    assert isinstance(outcome, Outcome)
    return outcome


def _itself(outcome: Outcome) -> Outcome:
    return outcome


async def _aitself(outcome: Outcome) -> Outcome:
    return outcome


def test_only_the_clients_are_recognised() -> None:
    seen: list[bool] = []

    def look(request: HttpRequest) -> None:
        seen.append(is_from_test_client(request))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "register", lambda **options: None)
        for enforce in (False, True):
            response: Any = Client(enforce_csrf_checks=enforce).get("/sync")
            look(response.wsgi_request)
    assert seen == [True, True]
    assert not is_from_test_client(RequestFactory().get("/sync"))
    assert not is_from_test_client(AsyncRequestFactory().get("/sync"))


async def test_the_async_client_is_recognised() -> None:
    for enforce in (False, True):
        response: Any = await AsyncClient(enforce_csrf_checks=enforce).get("/async")
        assert is_from_test_client(response.asgi_request)


def sync_only(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    return lambda request: get_response(request)


@pytest.mark.parametrize("target", ["/sync", "/async"])
async def test_a_sync_middleware_outside_ours(target: str) -> None:
    """The thread in which the exchange was opened is gone when its callbacks run."""
    called: list[str] = []
    views.todo += [lambda: called.append("first"), lambda: called.append("second")]
    middleware = [f"{__name__}.sync_only", "async_after.django.AfterResponseMiddleware"]
    with override_settings(MIDDLEWARE=middleware):
        await AsyncClient().get(target)
    assert called == ["first", "second"]


def test_callbacks_run_in_the_thread_of_the_client() -> None:
    threads: list[int] = []
    views.todo += [lambda: threads.append(threading.get_ident())] * 2
    Client().get("/sync")
    assert threads == [threading.get_ident()] * 2


def test_an_outcome_of_the_client() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "register", lambda: None)
        views.todo.clear()
    outcomes: list[Outcome] = []

    def look() -> None:
        [callback] = views.registered
        assert callback.outcome is not None
        outcomes.append(callback.outcome)

    views.todo.append(look)
    Client().get("/sync?secret=1")
    [outcome] = outcomes
    assert outcome.completion is Completion.SENT
    assert (outcome.status, outcome.method, outcome.path) == (200, "GET", "/sync")
    assert outcome.body_bytes == len("sync")
    assert ("x-view", "sync") in outcome.headers
    assert outcome.is_success


@pytest.mark.parametrize("func", [_itself, _aitself])
def test_a_failing_view_gives_its_exception(func: Any) -> None:
    views.todo.append(func)
    with pytest.raises(LookupError):
        Client().get("/fails")
    # The client's handler raised in the request; the error page was closed all the same.
    response = Client(raise_request_exception=False).get("/fails")
    assert response.status_code == 500
    outcome = views.registered[-1].result()
    assert isinstance(outcome.error, LookupError)
    assert outcome.status == 500
    assert not outcome.is_success


@pytest.mark.parametrize("func", [_itself, _aitself])
def test_a_stream_ends_with_its_last_step(func: Any) -> None:
    views.todo.append(func)
    response: Any = Client().get("/stream")
    assert views.registered == []
    assert response.getvalue() == b"onetwo"
    assert _outcome().body_bytes == 6
    assert _outcome().completion is Completion.SENT
    assert _outcome().time_to_first_byte is not None


def test_a_broken_stream_is_failed() -> None:
    views.todo.append(_itself)
    response: Any = Client().get("/broken-stream?sync=1")
    with pytest.raises(LookupError):
        response.getvalue()
    assert _outcome().completion is Completion.FAILED
    assert _outcome().status == 200
    assert isinstance(_outcome().error, LookupError)


async def test_an_async_stream_of_the_async_client() -> None:
    views.todo += [_aitself]
    response: Any = await AsyncClient().get("/astream")
    assert b"".join([part async for part in response.streaming_content]) == b"onetwo"
    assert _outcome().completion is Completion.SENT


async def test_a_broken_async_stream_of_the_async_client() -> None:
    views.todo += [_aitself]
    response: Any = await AsyncClient().get("/broken-stream")
    with pytest.raises(LookupError):
        async for _ in response.streaming_content:
            pass
    assert _outcome().completion is Completion.FAILED


def test_a_stream_that_is_not_read_to_its_end_is_cut() -> None:
    views.todo.append(_itself)
    response: Any = Client().get("/stream")
    steps = iter(response.streaming_content)
    assert next(steps) == b"one"
    assert next(steps) == b"two"
    response.close()
    assert _outcome().completion is Completion.DISCONNECTED


def test_a_file() -> None:
    views.todo.append(_itself)
    response: Any = Client().get("/file")
    assert len(response.getvalue()) == 100_000
    assert _outcome().body_bytes == 100_000


def test_head_and_not_modified() -> None:
    views.todo.append(lambda: None)
    assert Client().head("/sync").content == b""
    etag = Client().get("/sync")["ETag"]
    assert Client().get("/sync", headers={"If-None-Match": etag}).status_code == 304
    assert [c.outcome.body_bytes for c in views.registered if c.outcome] == [0, 4, 0]


def test_a_failing_callback_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[int] = []

    def fail() -> None:
        raise SystemExit("no reason to leave")

    views.todo += [fail, lambda: ran.append(1)]
    assert Client().get("/sync").content == b"sync"
    assert ran == [1]
    assert views.registered[0].state is CallbackState.FAILED
    assert "GET /sync (200) failed" in caplog.text


def test_a_client_inside_a_view_has_its_own_exchange() -> None:
    """The key on the environ decides, not the variable; which is as before after it."""
    order: list[str] = []

    def inner() -> None:
        order.append("inner")

    def outer_callback() -> None:
        order.append("outer")

    original = views.register

    def outer(**options: Any) -> None:
        after_response(outer_callback)
        before = current_exchange.get()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(views, "register", lambda **options: after_response(inner))
            Client().get("/sync")
        assert current_exchange.get() is before
        order.append("view")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "register", outer)
        Client().get("/sync")
    assert views.register is original
    assert order == ["inner", "view", "outer"]


def test_a_request_factory_meets_the_one_rule() -> None:
    views.todo.append(lambda: None)
    with pytest.raises(NoActiveExchange, match="exchange_scope"):
        views.sync_view(RequestFactory().get("/"))


def test_a_view_in_a_plain_thread_names_its_request() -> None:
    ran: list[int] = []

    def register(**options: Any) -> None:
        request = HttpRequest()
        request.META = {"async_after.exchange": current_exchange.get()}  # as a middleware's copy

        def other() -> None:
            after_response.using(request=request)(ran.append, 1)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(10)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "register", register)
        Client().get("/sync")
    assert ran == [1]


def test_a_cookie_that_is_not_latin_1() -> None:
    """What cannot be told in a header's encoding loses no callback."""

    def register(**options: Any) -> None:
        views.registered.append(after_response(int))

    def view(request: HttpRequest) -> Any:
        response = views.sync_view(request)
        response.set_cookie("price", "5€")
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "register", register)
        response: Any = AfterResponseMiddleware(view)(RequestFactory().get("/"))
        response.close()
        assert views.registered[0]._owner.latch(views.registered[0]).wait_in_thread(10)
    assert views.registered[0].state is CallbackState.SUCCEEDED
