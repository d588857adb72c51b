"""Promise 16, in_context, through Django's handlers and test clients: what is said of a callback
is said with the request's id, whose middleware has put it away by then."""

import logging
import threading
from collections.abc import Iterator
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper

from async_after import get_runner
from tests.django.site import views
from tests.django.site.models import Row

from .ways import ALL, WITH_THREADS, Way

request_id: ContextVar[str] = ContextVar("request_id", default="nobody's")
PATHS = pytest.mark.parametrize("path", ["/sync", "/async"])


class Heard(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, str]] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.said.append((record.__dict__["event"], request_id.get()))
        return True


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    found, logger = Heard(), logging.getLogger("async_after")
    register = views.register

    def register_inside(**options: Any) -> None:
        """As a middleware sets an id, and resets it."""
        token = request_id.set("the request's")
        register(**options)
        request_id.reset(token)

    monkeypatch.setattr(views, "register", register_inside)
    logger.addFilter(found)
    yield found
    logger.removeFilter(found)


def fails() -> None:
    raise LookupError


async def afails() -> None:
    fails()


@ALL
@PATHS
async def test_failures(way: Way, path: str, heard: Heard) -> None:
    views.todo += [fails, afails]
    await way(path)
    assert heard.said == [("callback_failed", "the request's")] * 2


@ALL
@PATHS
async def test_under_threads_that_inherit(
    way: Way, path: str, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sentry-sdk, and free-threaded Python 3.14, let them: the first request starts them."""
    start = threading.Thread.start

    def inherit(thread: threading.Thread) -> None:
        run, context = thread.run, copy_context()
        thread.run = lambda: context.run(run)  # type: ignore[method-assign]
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", inherit)
    capacity = get_runner().capacity
    capacity.pool.close()
    capacity.background.close()
    capacity.begin_life()  # its threads are to be started anew
    request_id.set("another request's")
    seen: list[str] = []
    for _ in range(2):
        views.todo[:] = [fails, afails, lambda: seen.append(request_id.get())]
        await way(path)
    assert heard.said == [("callback_failed", "the request's")] * 4
    assert seen == ["the request's"] * 2


def counts() -> int:
    return Row.objects.count()


async def acounts() -> int:
    return await Row.objects.acount()


@WITH_THREADS
async def test_what_cannot_be_cleaned_up(
    way: Way, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(connection: Any) -> None:
        if threading.current_thread().name.startswith("async_after worker"):
            raise OSError("the connection cannot be closed")

    monkeypatch.setattr(BaseDatabaseWrapper, "close_if_unusable_or_obsolete", refuse)
    views.todo += [counts, acounts, counts]
    await way("/sync")
    monkeypatch.undo()
    assert {*heard.said} == {("cleanup_failed", "the request's")}
