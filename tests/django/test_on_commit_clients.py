"""``on_commit`` in Django's own tests, whose transaction never commits."""

import http.client
import json
import threading
import unittest
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse
from django.test import (
    AsyncClient,
    Client,
    LiveServerTestCase,
    SimpleTestCase,
    TestCase,
    TransactionTestCase,
    override_settings,
)
from django.urls import path

from async_after import (
    Callback,
    CallbackState,
    aafter_response,
    after_response,
    exchange_scope,
    get_runner,
)
from tests.django.site.models import Row

DEADLINE = 10.0
PENDING, SUCCEEDED, SKIPPED, FAILED = (
    CallbackState.PENDING,
    CallbackState.SUCCEEDED,
    CallbackState.SKIPPED,
    CallbackState.FAILED,
)

todo: list[Callable[..., object]] = []
registered: list[Callback[Any]] = []
order: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    todo.clear()
    registered.clear()
    order.clear()
    yield
    registered.clear()


def sync_view(request: HttpRequest) -> JsonResponse:
    Row.objects.create(text="of the view")
    for func in todo:
        registered.append(after_response.using(on_commit=True)(func))
    return JsonResponse({})


async def async_view(request: HttpRequest) -> JsonResponse:
    await Row.objects.acreate(text="of the view")
    for func in todo:
        registered.append(await aafter_response.using(on_commit=True)(func))
    return JsonResponse({})


def ordered_view(request: HttpRequest) -> JsonResponse:
    on_commit = after_response.using(on_commit=True)
    registered.append(after_response(order.append, "1"))
    with transaction.atomic():
        registered.append(on_commit(order.append, "2"))
        try:
            with transaction.atomic():
                registered.append(on_commit(order.append, "never"))
                raise LookupError
        except LookupError:
            pass
    registered.append(after_response(order.append, "3"))
    return JsonResponse({})


urlpatterns = [
    path("sync", sync_view),
    path("async", async_view),
    path("ordered", ordered_view),
]
with_these_views = override_settings(ROOT_URLCONF=__name__)


def seen() -> tuple[int, int, bool]:
    """In which thread, and what of the transaction."""
    found = Row.objects.filter(text__in=["of the test", "of the view"]).count()
    return threading.get_ident(), found, connection.in_atomic_block


async def aseen() -> tuple[int, int, bool]:
    return await sync_to_async(seen)()


def fail() -> None:
    raise LookupError("a callback that fails")


def states() -> list[CallbackState]:
    return [callback.state for callback in registered]


@with_these_views
class InTheTransactionOfATest(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        Row.objects.create(text="of the test")

    def _check(self) -> None:
        # Here, in the test's own transaction, and that of nobody else.
        here = (threading.get_ident(), 2, True)
        assert [callback.result() for callback in registered] == [here, here]
        assert connection.in_atomic_block

    def _run(self, path: str) -> None:
        todo[:] = [seen, aseen]
        before = get_runner().statistics()
        with self.captureOnCommitCallbacks(execute=True):
            assert self.client.get(path).status_code == 200
            # The client does not wait for it, and nobody else does.
            assert states() == [PENDING, PENDING]
            after = get_runner().statistics()
            assert after.pending - before.pending == 2
            assert after.open_exchanges == before.open_exchanges
        self._check()

    def test_client_and_sync_view(self) -> None:
        self._run("/sync")

    def test_client_and_async_view(self) -> None:
        self._run("/async")

    async def _arun(self, path: str) -> None:
        todo[:] = [seen, aseen]
        # In the thread that has the connection, as everything of the ORM.
        capturing = self.captureOnCommitCallbacks(execute=True)
        await sync_to_async(capturing.__enter__)()
        assert (await self.async_client.get(path)).status_code == 200
        await get_runner().drain(DEADLINE)
        assert states() == [PENDING, PENDING]
        await sync_to_async(capturing.__exit__)(None, None, None)
        for callback in registered:
            await callback.wait(DEADLINE)
        await sync_to_async(self._check)()

    async def test_async_client_and_sync_view(self) -> None:
        await self._arun("/sync")

    async def test_async_client_and_async_view(self) -> None:
        await self._arun("/async")

    def test_what_is_rolled_back_and_what_is_late(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            self.client.get("/ordered")
            assert states() == [SUCCEEDED, PENDING, SKIPPED, SUCCEEDED]
        assert states() == [SUCCEEDED, SUCCEEDED, SKIPPED, SUCCEEDED]
        assert order == ["1", "3", "2"]

    def test_captured_and_called_by_hand(self) -> None:
        with self.captureOnCommitCallbacks() as callbacks:
            self.client.get("/ordered")
        assert len(callbacks) == 1
        for _ in range(2):
            callbacks[0]()
        assert order == ["1", "3", "2"]

    def test_a_failure_is_told(self) -> None:
        todo[:] = [fail, seen]
        with (
            self.assertLogs("async_after", "ERROR") as logs,
            self.captureOnCommitCallbacks(execute=True),
        ):
            self.client.get("/sync")
        assert states() == [FAILED, SUCCEEDED]
        assert "fail of GET /sync (200) failed" in logs.output[0]

    def test_another_client_meanwhile(self) -> None:
        """The hooks of several requests wait in one transaction."""
        todo[:] = [seen]
        with self.captureOnCommitCallbacks(execute=True):
            self.client.get("/sync")
            self.client.get("/ordered")
        assert states() == [SUCCEEDED, SUCCEEDED, SUCCEEDED, SKIPPED, SUCCEEDED]

    def test_a_scope(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            with exchange_scope():
                registered.append(after_response.using(on_commit=True)(seen))
            assert states() == [PENDING]
        assert registered[0].result() == (threading.get_ident(), 1, True)


def run(case: type[SimpleTestCase]) -> None:
    """Run a test to its end, as Django's test runner does."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    problems = [text for _, text in (*result.errors, *result.failures)]
    assert (result.testsRun, problems) == (1, [])


def test_skipped_when_the_test_is_over() -> None:
    @with_these_views
    class Case(TestCase):
        def test(self) -> None:
            todo[:] = [seen, aseen]
            for view in ("/sync", "/ordered"):
                assert self.client.get(view).status_code == 200
            assert states().count(PENDING) == 3

    before = get_runner().statistics()
    run(Case)
    assert states() == [SKIPPED, SKIPPED, SUCCEEDED, SKIPPED, SKIPPED, SUCCEEDED]
    after = get_runner().statistics()
    assert after.pending == before.pending
    assert after.registered - before.registered == 6


def test_skipped_when_an_async_test_is_over() -> None:
    @with_these_views
    class Case(TestCase):
        async def test(self) -> None:
            todo[:] = [seen, aseen]
            for view in ("/sync", "/async"):
                assert (await self.async_client.get(view)).status_code == 200
            await get_runner().drain(DEADLINE)
            assert states() == [PENDING] * 4

    run(Case)
    assert states() == [SKIPPED] * 4


@with_these_views
class InTransactionsOfItsOwn(TransactionTestCase):
    """The test's own transactions commit."""

    def test_client(self) -> None:
        todo[:] = [seen, aseen]
        for view in ("/sync", "/async"):
            self.client.get(view)
        here = threading.get_ident()
        assert [callback.result()[0] for callback in registered] == [here] * 4
        registered.clear()
        self.client.get("/ordered")
        assert states() == [SUCCEEDED, SUCCEEDED, SKIPPED, SUCCEEDED]
        assert order == ["1", "2", "3"]

    def test_client_inside_a_transaction(self) -> None:
        todo[:] = [seen, aseen]
        with transaction.atomic():
            self.client.get("/sync")
            assert states() == [PENDING, PENDING]
        # In the commit, which is over for the others.
        assert [callback.result() for callback in registered] == [
            (threading.get_ident(), 1, False)
        ] * 2
        registered.clear()
        with transaction.atomic():
            self.client.get("/sync")
            transaction.set_rollback(True)
        assert states() == [SKIPPED, SKIPPED]

    async def test_async_client(self) -> None:
        todo[:] = [seen, aseen]
        for view in ("/sync", "/async"):
            await self.async_client.get(view)
        assert states() == [SUCCEEDED] * 4
        assert not any(callback.result()[2] for callback in registered)

    async def test_async_client_inside_a_transaction(self) -> None:
        todo[:] = [seen, aseen]
        block = transaction.atomic()
        await sync_to_async(block.__enter__)()
        await self.async_client.get("/async")
        assert states() == [PENDING, PENDING]
        await sync_to_async(block.__exit__)(None, None, None)
        for callback in registered:
            assert await callback.wait(DEADLINE) == (
                await sync_to_async(threading.get_ident)(),
                1,
                False,
            )


# The live server wants to know which files it need not ask the views for.
@override_settings(ROOT_URLCONF=__name__, STATIC_URL="/static/", MEDIA_URL="/media/")
class ByALiveServer(LiveServerTestCase):
    """WSGI, with a thread for each request; Django's middleware alone."""

    def _get(self, path: str) -> None:
        url = urlsplit(self.live_server_url)
        assert url.hostname is not None
        client = http.client.HTTPConnection(url.hostname, url.port, timeout=DEADLINE)
        try:
            client.request("GET", path)
            response = client.getresponse()
            assert (response.status, json.loads(response.read())) == (200, {})
        finally:
            client.close()
        for callback in registered:
            assert callback._owner.latch(callback).wait_in_thread(DEADLINE)

    def test_it_runs(self) -> None:
        todo[:] = [seen, aseen]
        for view in ("/sync", "/async"):
            self._get(view)
        # Both rows were committed, and each is seen by those behind it.
        assert [callback.result()[1:] for callback in registered] == [
            *((1, False), (1, False)),
            *((2, False), (2, False)),
        ]
        assert threading.get_ident() not in {callback.result()[0] for callback in registered}

    def test_it_has_its_place(self) -> None:
        self._get("/ordered")
        assert states() == [SUCCEEDED, SUCCEEDED, SKIPPED, SUCCEEDED]
        assert order == ["1", "2", "3"]


@with_these_views
class WithAClientOfItsOwn(SimpleTestCase):
    databases = {"default"}  # noqa: RUF012 -- that is how Django has it

    def test_nothing_of_django_s_tests_is_needed(self) -> None:
        todo[:] = [seen]
        try:
            Client().get("/sync")
            assert states() == [SUCCEEDED]
        finally:
            Row.objects.filter(text="of the view").delete()


@with_these_views
async def test_an_async_client_outside_of_tests() -> None:
    """On the loop of pytest, as pytest-asyncio has it."""
    todo[:] = [seen, aseen]
    try:
        for view in ("/sync", "/async"):
            assert (await AsyncClient().get(view)).status_code == 200
        assert states() == [SUCCEEDED] * 4
    finally:
        await Row.objects.filter(text="of the view").adelete()
