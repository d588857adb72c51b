"""Views for promises that take more than one callback to be seen. None knows how it is served."""

import asyncio
import logging
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextvars import copy_context
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from async_after import Outcome, after_response
from async_after._core.exchange import current_exchange, key_holder

from . import work
from .serving import BODY, PARTS, both, pair
from .setups import LIMIT, PENDING_LIMIT
from .work import keep, note

# bounded


class Crowd:
    """Whoever comes in stays until a group of ``LIMIT`` is complete, and a little longer:
    where more may run at once, more are seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._here = self._came = self.most = 0
        self._is_complete = [threading.Event() for _ in range(3)]

    def join(self) -> None:
        with self._lock:
            self._here += 1
            self.most = max(self.most, self._here)
            group, self._came = self._is_complete[self._came // LIMIT], self._came + 1
            if self._came % LIMIT == 0:
                group.set()
        if not group.wait(work.DEADLINE):
            raise TimeoutError("fewer than the limit run at once")
        time.sleep(0.02)
        with self._lock:
            self._here -= 1

    async def ajoin(self) -> None:
        await asyncio.to_thread(self.join)


@both
def crowds(request: HttpRequest, ident: str) -> HttpResponse:
    """Three times as many callbacks as may run at once. ``of``: their kind."""
    crowd = Crowd()
    join: dict[str, list[Any]] = {
        "sync": [crowd.join],
        "async": [crowd.ajoin],
        "both": [crowd.join, crowd.ajoin],
    }
    functions = join[request.GET["of"]]

    def tell() -> int:
        return crowd.most

    for number in range(3 * LIMIT):
        registrar = after_response.using(concurrent=True)
        keep(ident, registrar(functions[number % len(functions)]))
    # Its turn comes when the last group leaves.
    keep(ident, after_response.using(concurrent=True)(tell))
    return HttpResponse(BODY)


# sealed


def _change(outcome: Outcome, ident: str) -> None:
    for name, value in (("status", 500), ("headers", ())):
        try:
            setattr(outcome, name, value)
        except AttributeError as error:
            note(ident, type(error).__name__)
    note(ident, [outcome.completion.name, outcome.status, outcome.body_bytes, outcome.duration])


async def _achange(outcome: Outcome, ident: str) -> None:
    await asyncio.sleep(0)
    _change(outcome, ident)


@both
def seals(request: HttpRequest, ident: str) -> HttpResponse:
    registrar = after_response.using(takes_outcome=True)
    for function in (_change, _achange, _change):
        keep(ident, registrar(function, ident))
    return HttpResponse(BODY)


# discreet

ARGUMENT = "secret-argument"


def fail(ident: str, secret: str) -> None:
    raise LookupError(f"one of {ident}")


async def afail(ident: str, secret: str) -> None:
    await asyncio.sleep(0)
    fail(ident, secret)


async def never_end(ident: str, secret: str) -> None:
    await asyncio.Event().wait()


def tell(outcome: Outcome, ident: str, secret: str) -> None:
    note(ident, repr(outcome))


@both
def hides(request: HttpRequest, ident: str) -> HttpResponse:
    """Callbacks that fail and time out, with what nobody may see in the log."""
    keep(ident, after_response(fail, ident, ARGUMENT))
    keep(ident, after_response(afail, ident, secret=ARGUMENT))
    keep(ident, after_response.using(timeout=0.05)(never_end, ident, ARGUMENT))
    keep(ident, after_response.using(takes_outcome=True)(tell, ident, ARGUMENT))
    for callback in work.callbacks[ident]:
        note(ident, repr(callback))
    return HttpResponse(BODY, headers={"X-Secret": ARGUMENT})


async def _hold(event: threading.Event, secret: str) -> None:
    await asyncio.to_thread(event.wait, work.DEADLINE)


@both
def overflows(request: HttpRequest, ident: str) -> HttpResponse:
    """More callbacks than may run and wait: the newest are dropped, and named."""
    event = threading.Event()
    concurrent = after_response.using(concurrent=True)
    for _ in range(LIMIT):
        keep(ident, concurrent(_hold, event, ARGUMENT))
    for number in range(PENDING_LIMIT + 3):
        keep(ident, concurrent(_hold, event, f"{ARGUMENT} {number}"))
    threading.Timer(0.1, event.set).start()
    return HttpResponse(BODY)


# outside_in


class Looks:
    """Whether the places where a request comes by are inside its exchange, by name."""

    def __init__(self, request: HttpRequest, ident: str) -> None:
        holder = key_holder(request)
        assert holder is not None
        self._exchange = holder["async_after.exchange"]
        self._ident = ident

    def look(self, where: str) -> None:
        is_inside = current_exchange.get() is self._exchange
        note(self._ident, [where, is_inside])
        if is_inside:
            keep(self._ident, after_response(str, where))

    def response(self, body: Any) -> HttpResponseBase:
        """One that looks at whatever its server, and Django, do with it."""
        response = StreamingHttpResponse(body)
        response._resource_closers.append(lambda: self.look("close"))  # type: ignore[attr-defined]
        return response


def looks_around(request: HttpRequest, ident: str) -> HttpResponseBase:
    looks = Looks(request, ident)
    looks.look("view")
    context = copy_context()
    thread = threading.Thread(target=lambda: context.run(looks.look, "thread"))
    thread.start()
    thread.join(work.DEADLINE)

    def parts() -> Iterator[bytes]:
        for part in PARTS:
            looks.look("step")
            yield part

    return looks.response(parts())


async def alooks_around(request: HttpRequest, ident: str) -> HttpResponseBase:
    looks = Looks(request, ident)
    looks.look("view")
    await sync_to_async(looks.look)("thread")
    await asyncio.create_task(_alook(looks))

    async def parts() -> AsyncIterator[bytes]:
        for part in PARTS:
            await asyncio.sleep(0)
            looks.look("step")
            yield part

    return looks.response(parts())


async def _alook(looks: Looks) -> None:
    looks.look("task")


pair(looks_around, alooks_around)


# in_context

said: dict[str, list[list[object]]] = defaultdict(list)
"""What the log has said of the callbacks of a request: the event, and in whose context."""


def _hear(record: logging.LogRecord) -> bool:
    """A filter: as those that put the id of the request into each line."""
    ident = str(getattr(record, "path", "")).rpartition("/")[2]
    said[ident].append([record.__dict__["event"], work.variable.get()])
    return True


logging.getLogger("async_after").addFilter(_hear)


@both
def is_told_of(request: HttpRequest, ident: str) -> HttpResponse:
    """As a middleware sets an id, and another one later."""
    work.variable.set("of the view")
    for function in (_fail, _afail):
        keep(ident, after_response(function))
    keep(ident, after_response.using(timeout=0.05)(work.never_end, ident))
    work.variable.set("too late")
    keep(ident, after_response(lambda: said[ident]))
    return HttpResponse(BODY)


def _fail() -> None:
    raise LookupError


async def _afail() -> None:
    _fail()
