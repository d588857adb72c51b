"""The testing tools and callbacks that wait for a commit, too."""

from collections.abc import Iterator

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import TestCase, TransactionTestCase, override_settings
from django.urls import path

from async_after import Callback, CallbackState, aafter_response, after_response, exchange_scope
from async_after._core.registration import test_hook
from async_after.testing import (
    capture_after_response,
    raise_callback_errors,
    suppress_after_response,
)

ran: list[str] = []


def view(request: HttpRequest) -> HttpResponse:
    after_response(ran.append, "before")
    with transaction.atomic():
        after_response.using(on_commit=True)(ran.append, "on commit")
    with pytest.raises(LookupError), transaction.atomic():  # noqa: PT012
        after_response.using(on_commit=True)(ran.append, "rolled back")
        raise LookupError
    after_response(ran.append, "after")
    return HttpResponse("done")


async def async_view(request: HttpRequest) -> HttpResponse:
    await aafter_response.using(on_commit=True)(ran.append, "async on commit")
    after_response(ran.append, "async after")
    return HttpResponse("done")


urlpatterns = [path("sync", view), path("async", async_view)]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    ran.clear()
    yield
    assert test_hook.interceptors == ()


def states(*callbacks: Callback[None]) -> list[CallbackState]:
    return [callback.state for callback in callbacks]


@override_settings(ROOT_URLCONF=__name__)
class NothingIsEverCommitted(TestCase):
    """As in every TestCase of Django's."""

    def test_they_are_captured_with_the_others(self) -> None:
        with capture_after_response() as captured:
            self.client.get("/sync")
            assert [each.args[0] for each in captured] == [
                *("before", "on commit", "rolled back", "after")
            ]
            assert [each.options.on_commit for each in captured] == [False, True, True, False]
            assert states(*(each.callback for each in captured)) == [
                CallbackState.PENDING,
                CallbackState.PENDING,
                CallbackState.SKIPPED,
                CallbackState.PENDING,
            ]
        assert {each.callback.state for each in captured} == {CallbackState.SKIPPED}
        assert ran == []

    def test_they_are_executed_unless_they_were_rolled_back(self) -> None:
        with capture_after_response(execute=True):
            self.client.get("/sync")
            assert ran == []
        assert ran == ["before", "on commit", "after"]

    async def test_async(self) -> None:
        async with capture_after_response(execute=True):
            await self.async_client.get("/async")
            assert ran == []
        assert ran == ["async on commit", "async after"]

    def test_with_those_of_on_commit_itself(self) -> None:
        """Once each, whichever block is the outer one."""
        with capture_after_response(execute=True), self.captureOnCommitCallbacks(execute=True):
            self.client.get("/sync")
        assert ran == ["before", "on commit", "after"]
        ran.clear()
        with self.captureOnCommitCallbacks(execute=True):
            with capture_after_response(execute=True):
                self.client.get("/sync")
            assert ran == ["before", "on commit", "after"]
        assert ran == ["before", "on commit", "after"]

    def test_those_that_wait_for_a_commit_are_not_waited_for(self) -> None:
        with raise_callback_errors(timeout=600):
            self.client.get("/sync")
        assert ran == ["before", "after"]
        with pytest.raises(ValueError, match="no number"), raise_callback_errors():  # noqa: SIM117
            with self.captureOnCommitCallbacks(execute=True), exchange_scope():
                after_response.using(on_commit=True)(int, "no number")


@override_settings(ROOT_URLCONF=__name__)
class Committed(TransactionTestCase):
    def test_a_commit_does_not_run_what_is_captured(self) -> None:
        with capture_after_response(execute=True):
            self.client.get("/sync")
            assert ran == []
        assert ran == ["before", "on commit", "after"]

    def test_a_commit_after_the_block_runs_nothing_again(self) -> None:
        with transaction.atomic():
            with capture_after_response() as captured, exchange_scope():
                after_response.using(on_commit=True)(ran.append, "captured")
            with capture_after_response(execute=True), exchange_scope():
                after_response.using(on_commit=True)(ran.append, "executed")
            with suppress_after_response(), exchange_scope():
                suppressed = after_response.using(on_commit=True)(ran.append, "suppressed")
            assert suppressed.state is CallbackState.SKIPPED
            assert ran == ["executed"]
        assert ran == ["executed"]
        assert captured[0].callback.state is CallbackState.SKIPPED

    def test_a_rollback_inside_the_block_skips(self) -> None:
        with capture_after_response(execute=True) as captured:
            with exchange_scope(), pytest.raises(LookupError), transaction.atomic():  # noqa: PT012
                after_response.using(on_commit=True)(ran.append, "rolled back")
                raise LookupError
            assert captured[0].callback.state is CallbackState.SKIPPED
        assert ran == []

    async def test_a_commit_in_a_coroutine(self) -> None:
        @sync_to_async
        def work() -> None:
            with transaction.atomic():
                after_response.using(on_commit=True)(ran.append, "on commit")

        async with capture_after_response(execute=True), exchange_scope():
            await work()
            assert ran == []
        assert ran == ["on commit"]
