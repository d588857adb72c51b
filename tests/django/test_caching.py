"""Responses that a cache pickles: callbacks belong to the exchange, not to the response."""

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings

from async_after import CallbackState, get_runner
from async_after.django import AfterResponseMiddleware
from tests.django.site import views

OURS = "async_after.django.AfterResponseMiddleware"
UPDATE = "django.middleware.cache.UpdateCacheMiddleware"
FETCH = "django.middleware.cache.FetchFromCacheMiddleware"


@pytest.fixture(autouse=True)
def empty_cache() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def closers_of(response: HttpResponse) -> list[Any]:
    closers: list[Any] = response._resource_closers  # type: ignore[attr-defined]
    return closers


@pytest.mark.parametrize(
    ("middleware", "path"),
    [
        ([UPDATE, OURS, FETCH], "/sync"),  # pickled with our closers on it
        ([OURS, UPDATE, FETCH], "/sync"),
        ([OURS], "/cached"),  # cache_page inside
    ],
)
def test_a_cache_hit_runs_nothing(middleware: list[str], path: str) -> None:
    views.todo.append(lambda: None)
    with override_settings(MIDDLEWARE=middleware):
        client = Client()
        first = client.get(path)
        [callback] = views.registered
        assert callback.state is CallbackState.SUCCEEDED
        second = client.get(path)
    assert first.content == second.content
    assert len(views.registered) == 1


async def test_the_closers_pickle_to_nothing() -> None:
    views.todo.append(lambda: None)
    response: Any = AfterResponseMiddleware(views.sync_view)(RequestFactory().get("/sync"))
    assert len(closers_of(response)) == 2
    pickled = pickle.dumps(response)
    assert b"async_after" not in pickled, "a later version may not have that module"
    stored = pickle.loads(pickled)
    assert [closer.func for closer in closers_of(stored)] == [int, int]
    stored.close()
    assert not views.registered[0].done()
    again = pickle.loads(pickle.dumps(stored))
    again.close()
    assert not views.registered[0].done()
    copied = copy.deepcopy(response)
    copied.close()
    assert not views.registered[0].done()
    response.close()
    await get_runner().drain(10)
    assert views.registered[0].state is CallbackState.SUCCEEDED
    response.close()  # again, as servers may
