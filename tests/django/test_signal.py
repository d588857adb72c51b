"""``response_finished``: who gets what, when, and what it leaves behind."""

import asyncio
import functools
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.core.asgi import get_asgi_application
from django.db import connection
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.test import TestCase, override_settings
from django.utils import translation

from async_after import Completion, Outcome, after_response, get_runner
from async_after.asgi import AfterResponseMiddleware as ASGIWrapper
from async_after.django import AfterResponseMiddleware, response_finished
from tests.django.site import views
from tests.django.site.models import Row

from . import ways
from .receivers import Receivers, connected
from .test_alone import TIMEOUT, until
from .test_alone import Exchange as Asked
from .ways import Way

OURS = "async_after.django.AfterResponseMiddleware"

# Each stream goes through handlers of both kinds.
pytestmark = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")


@pytest.fixture
def receivers() -> Iterator[Receivers]:
    receivers = Receivers()
    with connected(receivers.hear, receivers.ahear):
        yield receivers


@pytest.fixture
def connect() -> Iterator[Callable[..., None]]:
    """Connect a receiver for this test only."""
    with ExitStack() as stack:

        def connect(receiver: Any, sender: Any = None) -> None:
            stack.enter_context(connected(receiver, sender=sender))

        yield connect


# What is heard.


@ways.ALL
@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/sync", 200, b"sync"),
        ("/async", 200, b"async"),
        ("/stream", 200, b"onetwo"),
        ("/astream", 200, b"onetwo"),
        ("/file", 200, b"x" * 100_000),
        ("/nowhere", 404, None),
    ],
)
async def test_a_response(
    receivers: Receivers, way: Way, path: str, status: int, body: bytes | None
) -> None:
    sent = await way(path)
    if body is not None:
        assert sent == body
    named = receivers.one()
    assert named.keys() == {"signal", "sender", "request", "response", "outcome"}
    assert named["signal"] is response_finished
    assert named["sender"] is AfterResponseMiddleware
    assert named["request"].path == path
    assert named["response"].status_code == status
    outcome = named["outcome"]
    assert (outcome.completion, outcome.status) == (Completion.SENT, status)
    assert (outcome.method, outcome.path, outcome.error) == ("GET", path, None)


@ways.ALL
async def test_a_view_that_raises(receivers: Receivers, way: Way) -> None:
    await way("/fails")
    named = receivers.one()
    assert named["response"].status_code == 500
    outcome = named["outcome"]
    assert (outcome.completion, outcome.status) == (Completion.SENT, 500)
    assert isinstance(outcome.error, LookupError)


@ways.ALL
async def test_a_response_that_middleware_has_replaced(receivers: Receivers, way: Way) -> None:
    views.todo.append(lambda: None)
    await way("/sync")
    etag = receivers.one()["response"]["ETag"]
    receivers.heard.clear()
    receivers.aheard.clear()
    assert await way("/sync", {"If-None-Match": etag}) == b""
    named = receivers.one()
    assert type(named["response"]) is HttpResponseNotModified
    assert named["outcome"].status == 304


@pytest.mark.parametrize("way", [ways.wsgi_alone, ways.wsgi_wrapped, ways.wsgi_inline])
async def test_a_view_that_ends_the_request(
    receivers: Receivers, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    """What is no ``Exception`` no handler of Django makes a response of."""

    def leave(**options: Any) -> None:
        raise SystemExit("this view wants to leave")

    monkeypatch.setattr(views, "register", leave)
    with pytest.raises(SystemExit):
        await way("/sync")
    await get_runner().drain(TIMEOUT)
    named = receivers.one()
    assert named["request"].path == "/sync"
    assert named["response"] is None
    outcome = named["outcome"]
    assert (outcome.completion, outcome.status) == (Completion.FAILED, None)
    assert isinstance(outcome.error, SystemExit)


@pytest.mark.parametrize("way", [ways.asgi_alone, ways.asgi_wrapped])
async def test_a_stream_that_breaks(receivers: Receivers, way: Way) -> None:
    with pytest.raises(LookupError):
        await way("/broken-stream")
    await get_runner().drain(TIMEOUT)
    named = receivers.one()
    assert named["response"].status_code == 200
    assert named["outcome"].completion is Completion.FAILED
    assert isinstance(named["outcome"].error, LookupError)


# A client that leaves.


APPS = pytest.mark.parametrize("wrap", [lambda app: app, ASGIWrapper], ids=["alone", "wrapped"])


async def leave(app: Any, path: str, query: str = "") -> None:
    """Ask, and leave while the view or its stream runs."""
    exchange = Asked(path, query)
    running = asyncio.create_task(exchange.run(app))
    await until(views.entered)
    exchange.gone.set()
    views.go_on.set() if path == "/slow-sync" else None
    await running


async def heard_by(receivers: Receivers) -> dict[str, Any]:
    """Nobody closes a response that is thrown away: it may take another thread."""
    async with asyncio.timeout(TIMEOUT):
        while not (receivers.heard and receivers.aheard):
            gc.collect()
            await asyncio.sleep(0.01)
    return receivers.one()


@APPS
async def test_a_client_that_leaves_while_an_async_view_runs(
    receivers: Receivers, wrap: Any
) -> None:
    views.todo.append(lambda: None)
    await leave(wrap(get_asgi_application()), "/slow")
    named = await heard_by(receivers)
    assert named["request"].path == "/slow"
    assert named["response"] is None
    assert named["outcome"].completion is Completion.DISCONNECTED
    assert named["outcome"].status is None


@APPS
async def test_a_client_that_leaves_while_a_sync_view_runs(receivers: Receivers, wrap: Any) -> None:
    """The view goes on in its thread; Django throws its response away."""
    await leave(wrap(get_asgi_application()), "/slow-sync")
    named = await heard_by(receivers)
    assert named["request"].path == "/slow-sync"
    assert named["response"] is None
    assert named["outcome"].completion is Completion.DISCONNECTED


@APPS
async def test_a_client_that_leaves_in_the_middle_of_a_stream(
    receivers: Receivers, wrap: Any
) -> None:
    await leave(wrap(get_asgi_application()), "/astream", "wait=1")
    named = await heard_by(receivers)
    assert named["response"].status_code == 200
    assert named["outcome"].completion is Completion.DISCONNECTED
    assert named["outcome"].body_bytes == 3


@pytest.mark.parametrize("way", [ways.asgi_alone, ways.wsgi_alone, ways.client])
async def test_a_response_that_is_thrown_away(receivers: Receivers, way: Way) -> None:
    """By middleware outside of ours, which should be the first. Nobody closes it:
    that it is collected is the end of the exchange."""
    with override_settings(MIDDLEWARE=[f"{__name__}.replace", OURS]):
        assert await way("/sync") == b"another"
    named = await heard_by(receivers)
    assert named["request"].path == "/sync"
    # Under ASGI it may be on its way to that middleware still.
    assert named["response"] is None or (
        way is ways.asgi_alone and named["response"].content == b"sync"
    )
    assert named["outcome"].status is None


def replace(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    def middleware(request: HttpRequest) -> HttpResponse:
        get_response(request)
        return HttpResponse(b"another")

    return middleware


# Who hears.


def test_the_decorator_of_django() -> None:
    heard: list[Outcome] = []

    @receiver(response_finished)
    def log(outcome: Outcome, **kwargs: Any) -> None:
        heard.append(outcome)

    asyncio.run(ways.client("/sync"))
    assert [outcome.status for outcome in heard] == [200]


async def test_receivers_of_one_sender(connect: Any) -> None:
    """The class of the middleware; a subclass is a sender of its own."""
    heard: list[str] = []
    connect(lambda **_: heard.append("ours"), sender=AfterResponseMiddleware)
    connect(lambda **_: heard.append("subclass"), sender=Subclass)
    connect(lambda **_: heard.append("any"))
    await ways.client("/sync")
    assert sorted(heard) == ["any", "ours"]
    heard.clear()
    with override_settings(MIDDLEWARE=[f"{__name__}.Subclass"]):
        await ways.client("/sync")
    assert sorted(heard) == ["any", "subclass"]


class Subclass(AfterResponseMiddleware):
    pass


@ways.ALL
async def test_a_middleware_that_stands_there_twice_sends_it_once(
    receivers: Receivers, way: Way
) -> None:
    with override_settings(MIDDLEWARE=[OURS, OURS]):
        await way("/sync")
    assert receivers.one()["response"].content == b"sync"


async def test_a_request_without_receivers_registers_nothing() -> None:
    before = get_runner().statistics()
    for way in (*ways.SERVERS, ways.wsgi_inline, *ways.CLIENTS):
        await way("/sync")
        await way("/stream")
    assert get_runner().statistics() == before


# Isolated.


def raises(**kwargs: Any) -> None:
    raise LookupError("a receiver that raises")


async def araises(**kwargs: Any) -> None:
    await asyncio.sleep(0)
    raise LookupError("an async receiver that raises")


def exits(**kwargs: Any) -> None:
    raise SystemExit("no reason to leave")


def takes_nothing() -> None:
    pass


def yields(**kwargs: Any) -> Iterator[None]:
    yield


class Instance:
    """No function, and without a ``__qualname__``."""

    def __init__(self, is_async: bool) -> None:
        self._is_async = is_async

    def __call__(self, **kwargs: Any) -> Any:
        return araises() if self._is_async else raises()


FAILING: dict[str, Any] = {
    "raises": raises,
    "araises": araises,
    "takes_nothing": takes_nothing,
    "yields": yields,
    "Instance": Instance(False),
    "partial": functools.partial(Instance(True)),
    "str": "not callable",
}


@ways.ALL
@pytest.mark.parametrize("name", FAILING)
async def test_a_receiver_that_fails_is_logged_and_stops_nobody(
    connect: Any, receivers: Receivers, caplog: pytest.LogCaptureFixture, way: Way, name: str
) -> None:
    failing = FAILING[name]
    connect(failing)
    assert await way("/sync?secret=1") == b"sync"
    assert receivers.one()["response"].content == b"sync"
    [record] = [r for r in caplog.records if r.name == "async_after" and r.levelname == "ERROR"]
    kind = type(failing.func if name == "partial" else failing)
    expected = f"{__name__}.{name}" if kind.__name__ == "function" else kind.__qualname__
    assert record.getMessage().endswith("of GET /sync (200) failed")
    assert expected in record.getMessage()
    assert record.exc_info is not None
    assert "secret" not in caplog.text


@pytest.mark.parametrize("way", [*ways.SERVERS, *ways.CLIENTS])
async def test_a_receiver_that_exits_is_a_failure_like_any_other(
    connect: Any, receivers: Receivers, caplog: pytest.LogCaptureFixture, way: Way
) -> None:
    connect(exits)
    assert await way("/sync") == b"sync"
    receivers.one()
    assert f"{__name__}.exits of GET /sync (200) failed" in caplog.text


@ways.ALL
async def test_settings_that_are_wrong_by_now_harm_no_response(
    receivers: Receivers, caplog: pytest.LogCaptureFixture, monkeypatch: Any, way: Way
) -> None:
    def break_settings(**options: Any) -> None:
        after_response(order.append, 1)
        wrong.enable()

    order: list[int] = []
    wrong = override_settings(ASYNC_AFTER={"LIMIT": 0})
    monkeypatch.setattr(views, "register", break_settings)
    try:
        assert await way("/sync") == b"sync"
    finally:
        wrong.disable()
    assert order == [1]
    assert receivers.heard == receivers.aheard == []
    assert "response_finished of GET /sync (no response) is not sent" in caplog.text
    assert "ASYNC_AFTER['LIMIT']" in caplog.text


# Where and when.


@ways.WITH_THREADS
async def test_neither_receivers_nor_callbacks_wait_for_the_other(connect: Any, way: Way) -> None:
    """Each of them can end only when all have begun: none is in line."""
    begun = threading.Barrier(4, timeout=TIMEOUT)

    async def ameet(**kwargs: Any) -> None:
        await asyncio.to_thread(begun.wait)

    def meet(**kwargs: Any) -> None:
        begun.wait()

    connect(ameet)
    connect(meet)
    connect(lambda **_: begun.wait())
    views.todo.append(begun.wait)
    await way("/sync")
    assert not begun.broken
    assert views.registered[0].result() in range(4)


@ways.ALL
async def test_no_receiver_is_called_before_the_response_is_closed(
    connect: Any, monkeypatch: Any, way: Way
) -> None:
    order: list[str] = []
    close = HttpResponse.close

    def note_close(response: HttpResponse) -> None:
        order.append("closed")
        close(response)

    def register(**options: Any) -> None:
        order.append("view")

    connect(lambda **_: order.append("receiver"))
    monkeypatch.setattr(HttpResponse, "close", note_close)
    monkeypatch.setattr(views, "register", register)
    await way("/sync")
    assert order == ["view", "closed", "receiver"]


@ways.ALL
async def test_a_receiver_knows_the_language_of_the_request(connect: Any, way: Way) -> None:
    """The context is that of the response, not that in which the request came."""
    heard: list[str | None] = []

    async def ahear(**kwargs: Any) -> None:
        await asyncio.sleep(0)
        heard.append(translation.get_language())

    connect(lambda **_: heard.append(translation.get_language()))
    connect(ahear)
    await way("/async", {"Accept-Language": "fr"})
    assert heard == ["fr", "fr"]


@ways.ALL
async def test_a_receiver_registers_more(connect: Any, way: Way) -> None:
    order: list[str] = []

    def hear(**kwargs: Any) -> None:
        # First: a receiver is concurrent, and waits for nobody.
        order.append("receiver")
        after_response(order.append, "later")

    connect(hear)
    await way("/sync")
    assert order == ["receiver", "later"]


class AReceiverSeesTheTransactionOfATest(TestCase):
    def setUp(self) -> None:
        self.seen: list[int] = []
        for method in (self.look, self.alook):
            response_finished.connect(method)
            self.addCleanup(response_finished.disconnect, method)
        Row.objects.create(text="uncommitted")

    def look(self, **kwargs: Any) -> None:
        assert connection.in_atomic_block
        self.seen.append(Row.objects.filter(text="uncommitted").count())

    async def alook(self, **kwargs: Any) -> None:
        self.seen.append(await Row.objects.filter(text="uncommitted").acount())

    def test_client(self) -> None:
        for path in ("/sync", "/async"):
            self.client.get(path)
        assert self.seen == [1] * 4

    async def test_async_client(self) -> None:
        for path in ("/sync", "/async"):
            await self.async_client.get(path)
        assert self.seen == [1] * 4
