"""Promise 12, idle_cost: what a request pays that registers nothing, through each way in.

The same app without us is asked the same; in process, where all can be counted.
"""

import asyncio
import concurrent.futures
import gc
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from pathlib import Path
from types import FrameType
from typing import Any
from wsgiref.util import setup_testing_defaults

import asgiref
import pytest
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path

import async_after
from async_after import after_response, get_runner
from async_after.asgi import AfterResponseMiddleware as ASGIWrapper
from async_after.django import response_finished
from async_after.wsgi import AfterResponseMiddleware as WSGIWrapper

from ..servers.launch import MIDDLEWARE, WRAPPER, WSGI
from .test_alone import TIMEOUT, Exchange

OURS = "async_after.django.AfterResponseMiddleware"
KEY = "async_after.exchange"
GIVES_WAY = 0.02
"""Seconds; callbacks begin 3 ms after the response."""

held: list[set[type]] = []
"""The types of what the exchange refers to while its view runs."""


def _look(known: Any) -> None:
    exchange = known.get(KEY)
    if exchange is not None:
        held.append({type(found) for found in gc.get_referents(exchange)})


async def arespond(request: Any, registers: str) -> HttpResponse:
    if registers == "yes":
        after_response(int)
    _look(request.scope)
    return HttpResponse("body")


def respond(request: HttpRequest, registers: str) -> HttpResponse:
    if registers == "yes":
        after_response(int)
    _look(request.environ)  # type: ignore[attr-defined]
    return HttpResponse("body")


urlpatterns = [path("async/<registers>", arespond), path("sync/<registers>", respond)]


PACKAGE = str(Path(async_after.__file__).parent)
MACHINERY = tuple(
    str(Path(module.__file__ or "").parent) for module in (asyncio, asgiref, concurrent.futures)
)
"""Those who make tasks, hops and copies for others."""


class Counted:
    """How often tasks, threads and copies of contexts are made, in all threads.

    Of copies only ours: how many asyncio makes depends on who is quicker, a thread or the loop.
    """

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()

    @contextmanager
    def counting(self) -> Iterator[None]:
        threading.setprofile(self._see)
        sys.setprofile(self._see)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def _see(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code.co_name in ("create_task", "run_in_executor"):
            self.made[frame.f_code.co_name] += 1
        elif event == "c_call":
            name = arg.__name__
            is_copy = name == "copy_context" or (
                name == "copy" and isinstance(arg.__self__, Context)
            )
            if name in ("start_new_thread", "start_joinable_thread") or (
                is_copy and _is_ours(frame)
            ):
                self.made[name] += 1


def _is_ours(frame: FrameType | None) -> bool:
    """Whether the first one above the machinery is of the package."""
    while frame is not None and frame.f_code.co_filename.startswith(MACHINERY):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(PACKAGE)


def ask_asgi(app: Any, target: str, counted: Counted) -> None:
    async def ask() -> None:
        exchange = Exchange(target)
        with counted.counting():
            # In a task, and so in a context, of its own, as servers do.
            await asyncio.create_task(exchange.run(app))
            await asyncio.sleep(GIVES_WAY)
        assert exchange.sent[-1]["body"] == b"body"
        await get_runner().drain(TIMEOUT)

    asyncio.run(ask())


def ask_wsgi(app: Any, target: str, counted: Counted) -> None:
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ["PATH_INFO"] = target
    with counted.counting():
        body = app(environ, lambda status, headers, exc_info=None: None)
        assert b"".join(body) == b"body"
        body.close()
        time.sleep(GIVES_WAY)
    asyncio.run(get_runner().drain(TIMEOUT))


Ask = Callable[[Any, str, Counted], None]
Make = Callable[[], Any]
# The way, who asks, the view, our middleware or not, and the app with it.
WAYS: list[tuple[str, Ask, str, bool, Make]] = [
    (WRAPPER, ask_asgi, "async", False, lambda: ASGIWrapper(get_asgi_application(), hold=False)),
    (MIDDLEWARE, ask_asgi, "async", True, get_asgi_application),
    (WSGI, ask_wsgi, "sync", False, lambda: WSGIWrapper(get_wsgi_application())),
    (WSGI, ask_wsgi, "sync", True, get_wsgi_application),
]


def _parameter(way: str, ask: Ask, view: str, is_alone: bool, make: Make) -> Any:
    mark = pytest.mark.promise("idle_cost", way=way)
    name = f"{ask.__name__}-{'middleware' if is_alone else 'wrapper'}"
    return pytest.param(ask, view, is_alone, make, marks=mark, id=name)


def made(ask: Ask, app: Any, target: str) -> Counter[str]:
    ask(app, target, Counted())  # the first one imports, and starts threads that stay
    counted = Counted()
    ask(app, target, counted)
    return counted.made


@pytest.fixture(autouse=True)
def no_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever other tests have left: each receiver is a callback."""
    monkeypatch.setattr(response_finished, "receivers", [])


@pytest.mark.parametrize(("ask", "view", "is_alone", "make"), [_parameter(*way) for way in WAYS])
def test_idle_cost(ask: Ask, view: str, is_alone: bool, make: Make) -> None:
    """No task, no thread, no hop to one, no copy of a context, and no list; with a callback
    they are made, and this test sees them."""
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        bare = get_asgi_application() if ask is ask_asgi else get_wsgi_application()
        without = made(ask, bare, f"/{view}/no")
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[OURS] if is_alone else []):
        app = make()
        held.clear()
        idle = made(ask, app, f"/{view}/no")
        idle_types = set.union(*held)
        held.clear()
        registering = made(ask, app, f"/{view}/yes")
        registering_types = set.union(*held)
    assert idle == without
    assert registering.total() > idle.total()
    assert not idle_types & {list, set, deque}
    assert registering_types - idle_types, "the queue of the callbacks"
