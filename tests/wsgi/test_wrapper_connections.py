"""Lane "inline" and Django's database connections, in a thread of the server's own."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import django
import pytest
from asgiref.sync import sync_to_async
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path

from async_after import after_response, get_runner
from async_after.wsgi import AfterResponseMiddleware

from .wsgi_client import App, Call, drain, environ_for, in_thread, joined

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.site.settings")
django.setup()

used: list[tuple[str, threading.Thread, object]] = []
OURS = "async_after.django.AfterResponseMiddleware"


def use(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    used.append((name, threading.current_thread(), connection.connection))


async def ause(name: str) -> None:
    await sync_to_async(use)(name)


def view(request: HttpRequest) -> HttpResponse:
    use("view")
    after_response(use, "callback")
    after_response(ause, "coroutine")
    after_response(use, "last")
    return HttpResponse("ok")


def quiet_view(request: HttpRequest) -> HttpResponse:
    after_response(use, "callback")
    return HttpResponse("ok")


def leaving_view(request: HttpRequest) -> HttpResponse:
    def leaves() -> None:
        use("callback")
        raise SystemExit

    after_response(leaves)
    return HttpResponse("ok")


urlpatterns = [path("view", view), path("quiet", quiet_view), path("leaving", leaving_view)]


def alone() -> App:
    return WSGIHandler()


def wrapped() -> App:
    with override_settings(MIDDLEWARE=[]):
        return AfterResponseMiddleware(WSGIHandler(), lane="inline")


WAYS = pytest.mark.parametrize("make", [alone, wrapped])


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    used.clear()
    with override_settings(
        ROOT_URLCONF=__name__, MIDDLEWARE=[OURS], ASYNC_AFTER={"WSGI_LANE": "inline"}
    ):
        yield
    drain(get_runner())
    # With its threads go the connections that a coroutine function has used there.
    asyncio.run(get_runner().aclose())


def serve(app: App, *paths: str) -> list[object]:
    """In a new thread of the server; what was open in it afterwards."""
    left: list[object] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            for where in paths:
                try:
                    Call(app, environ_for(where)).run()
                except SystemExit:
                    pass
            left.append(connection.connection)
        except BaseException as error:
            failed.append(error)
        finally:
            connections.close_all()

    joined(in_thread(run))
    assert failed == []
    return left


@WAYS
@pytest.mark.parametrize("where", ["/view", "/quiet", "/leaving"])
def test_no_connection_stays_open(where: str, make: Callable[[], App]) -> None:
    """CONN_MAX_AGE = 0: as after a request without callbacks."""
    assert connections.settings["default"]["CONN_MAX_AGE"] == 0
    assert serve(make(), where, where) == [None]
    assert [name for name, _, _ in used].count("callback") == 2


@WAYS
def test_the_connection_is_reused(make: Callable[[], App], monkeypatch: Any) -> None:
    """CONN_MAX_AGE: view and callback have the thread's one, over requests."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
    [left] = serve(make(), "/view", "/view")
    assert left is not None
    chain = [(thread, made) for name, thread, made in used if name != "coroutine"]
    assert len(chain) == 6
    assert len({id(thread) for thread, _ in chain}) == 1
    assert {id(made) for _, made in chain} == {id(left)}


@WAYS
def test_the_views_connection_is_left_as_django_wants_it(
    make: Callable[[], App], monkeypatch: Any
) -> None:
    """A callback may look whether it works; the views after it pay nothing (CONN_HEALTH_CHECKS)."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 60)
    app = make()
    checks: list[bool] = []

    def run() -> None:
        Call(app, environ_for("/view")).run()
        checks.append(connection.health_check_enabled)  # type: ignore[attr-defined]
        connections.close_all()

    joined(in_thread(run))
    assert checks == [False]
