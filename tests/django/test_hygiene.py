"""Django's connections, caches, and language, in callbacks behind the ASGI wrapper."""

import threading
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from django.core.cache import cache, caches
from django.db import connection, connections
from django.test import override_settings
from django.utils import timezone, translation

from async_after import CallbackState, after_response, get_runner
from async_after.asgi import AfterResponseMiddleware
from tests.django.site import views
from tests.django.site.models import Row

from .test_alone import TIMEOUT, Exchange


async def through_the_wrapper(path: str) -> None:
    await Exchange(path).run(AfterResponseMiddleware(get_asgi_application(), hold=True))
    await get_runner().drain(TIMEOUT)
    assert [c.state for c in views.registered] == [CallbackState.SUCCEEDED] * len(views.registered)


@pytest.mark.parametrize("path", ["/sync", "/async"])
async def test_no_connection_is_left_behind(path: str) -> None:
    """With CONN_MAX_AGE 0: each callback's connection is closed when it has ended."""
    used: list[tuple[int, Any]] = []

    def look() -> None:
        connection.ensure_connection()
        used.append((threading.get_ident(), connection.connection))

    def s() -> None:
        look()
        Row.objects.count()

    async def a() -> None:
        from asgiref.sync import sync_to_async

        await Row.objects.acount()
        await sync_to_async(look)()
        await sync_to_async(look)()

    views.todo += [s, a, s]
    await through_the_wrapper(path)
    (_, first), (thread, second), (same_thread, same), (_, last) = used
    assert (thread, second) == (same_thread, same)  # one thread for one callback
    for closed in (first, second, last):
        with pytest.raises(Exception, match="closed"):
            closed.execute("SELECT 1")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that Django has looked at; it finds none of them alive.
    They are persistent, and CONN_HEALTH_CHECKS is off."""
    looked_at: list[Any] = []

    def is_usable(wrapper: Any) -> bool:
        looked_at.append(wrapper.connection)
        return False

    settings: Any = connections.settings["default"]
    monkeypatch.setitem(settings, "CONN_MAX_AGE", None)
    monkeypatch.setattr(type(connections["default"]), "is_usable", is_usable)
    assert settings["CONN_HEALTH_CHECKS"] is False
    return looked_at


@pytest.mark.parametrize("path", ["/sync", "/async"])
async def test_a_kept_connection_is_looked_at_before_its_next_use(
    path: str, looks: list[Any]
) -> None:
    """Nobody repeats a callback that has met a connection which the server had ended."""
    used: list[Any] = []

    def s() -> None:
        Row.objects.count()
        Row.objects.count()
        used.append(connection.connection)

    def ends() -> None:
        s()
        connection.close()

    views.todo += [ends, s, lambda: None, s, ends]
    with override_settings(ASYNC_AFTER={"MAX_THREADS": 1}):
        await through_the_wrapper(path)
    _, second, third, last = used
    # Not while it was new, nor for who does not use it, and once for who does.
    assert looks == [second, third]
    assert len({second, third, last}) == 3


async def test_async_callbacks_do_not_make_threads(caplog: pytest.LogCaptureFixture) -> None:
    """Through Django's finished ThreadSensitiveContext each would get a new one."""

    async def a() -> None:
        await Row.objects.acount()

    views.todo.append(a)
    before = _workers()
    after: set[int] = set()
    for _ in range(20):
        await through_the_wrapper("/async")
        after |= _workers()
    assert after
    assert len(after - before) <= 1


def _workers() -> set[int]:
    return {
        thread.ident or 0
        for thread in threading.enumerate()
        if thread.name.startswith("async_after worker")
    }


@pytest.mark.parametrize("path", ["/sync", "/async"])
async def test_no_cache_client_is_shared(path: str) -> None:
    clients: list[Any] = []

    def s() -> None:
        clients.append(caches["default"])

    async def a() -> None:
        clients.append(caches["default"])

    original = views.register

    def register(**options: Any) -> None:
        cache.get("x")
        clients.append(caches["default"])
        original(**options)

    views.todo += [s, a, a, s]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "register", register)
        await through_the_wrapper(path)
    assert len({id(client) for client in clients}) == 5


@pytest.mark.parametrize("path", ["/sync", "/async"])
async def test_context_kept_for_language_and_time_zone(path: str) -> None:
    """asgiref's Locals go along: registered in another thread than it runs in."""
    seen: list[tuple[str, str]] = []

    def s() -> None:
        seen.append((translation.get_language() or "", timezone.get_current_timezone_name()))

    async def a() -> None:
        s()

    def returns_coroutine() -> Any:
        return a()

    def register(**options: Any) -> None:
        with translation.override("fr"), timezone.override("Asia/Tokyo"):
            for func in (s, a, returns_coroutine):
                views.registered.append(after_response(func))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "register", register)
        await through_the_wrapper(path)
    assert seen == [("fr", "Asia/Tokyo")] * 3


async def test_a_clean_up_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    original = caches.close_all

    def fail() -> None:
        if threading.current_thread().name.startswith("async_after worker"):
            raise LookupError("this close fails")
        original()

    views.todo.append(lambda: cache.get("x"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caches, "close_all", fail)
        await through_the_wrapper("/async")
    assert "cleaning up after a callback failed" in caplog.text
