"""Views for options, states, context, database and threads. None knows how it is served."""

import asyncio
import threading
import time

from django.http import (
    HttpRequest,
    HttpResponse,
)
from django.utils import translation

from async_after import NoActiveExchange, aafter_response, after_response, exchange_scope
from async_after._core.exchange import When

from . import work
from .models import Row
from .serving import BODY, both, pair
from .work import anote, keep, note

# Options.


@both
def when(request: HttpRequest, ident: str) -> HttpResponse:
    names: tuple[When, ...] = ("success", "disconnect", "error")
    for number, name in enumerate(names):
        registrar = after_response.using(when=name)
        keep(ident, registrar(work.BOTH[number % 2], ident, name))
    predicate = after_response.using(when=lambda outcome: outcome.status in (200, 500))
    keep(ident, predicate(note, ident, "200 or 500"))
    status = request.GET["status"]
    if status == "raise":
        raise LookupError("this view always raises")
    return HttpResponse(BODY, status=int(status))


@both
def keeps_order(request: HttpRequest, ident: str) -> HttpResponse:
    for number in range(8):
        keep(ident, after_response(work.BOTH[number // 2 % 2], ident, number))
    return HttpResponse(BODY)


@both
def replaces(request: HttpRequest, ident: str) -> HttpResponse:
    for number, key in enumerate(("a", "b", None, "a", None)):
        keep(ident, after_response.using(key=key)(work.BOTH[number % 2], ident, number))
    return HttpResponse(BODY)


@both
def registers_more(request: HttpRequest, ident: str) -> HttpResponse:
    def more() -> None:
        note(ident, "more")
        keep(ident, after_response(amore))

    async def amore() -> None:
        await anote(ident, "amore")
        keep(ident, await aafter_response(note, ident, "last"))

    keep(ident, after_response(more))
    keep(ident, after_response(anote, ident, "before them"))
    return HttpResponse(BODY)


@both
def meets(request: HttpRequest, ident: str) -> HttpResponse:
    """Each of the two callbacks can end only while the other runs. ``of``: their kinds."""
    meeting = work.Meeting()
    concurrent = after_response.using(concurrent=True)
    for number, kind in enumerate(request.GET.getlist("of")):
        keep(ident, concurrent(meeting.join if kind == "sync" else meeting.ajoin, number))
    return HttpResponse(BODY)


@both
def overtakes(request: HttpRequest, ident: str) -> HttpResponse:
    """The first callback holds up neither, though it is the last to end."""
    event = threading.Event()

    async def wait() -> None:
        assert await asyncio.to_thread(event.wait, work.DEADLINE)
        note(ident, "concurrent")

    keep(ident, after_response.using(concurrent=True)(wait))
    keep(ident, after_response(note, ident, "first"))
    keep(ident, after_response(anote, ident, "second"))
    keep(ident, after_response(event.set))
    return HttpResponse(BODY)


# States.


@both
def ends_in_all_ways(request: HttpRequest, ident: str) -> HttpResponse:
    keep(ident, after_response(note, ident, "result"))
    keep(ident, after_response(work.fail, ident))
    keep(ident, after_response(anote, ident, "aresult"))
    keep(ident, after_response(work.afail, ident))
    keep(ident, after_response.using(when="disconnect")(note, ident, "wrong"))
    keep(ident, after_response.using(timeout=0.05)(work.never_end, ident))
    cancelled = keep(ident, after_response(note, ident, "wrong"))
    note(ident, cancelled.cancel())
    keep(ident, after_response(anote, ident, "last"))
    for callback in work.callbacks[ident]:
        try:
            note(ident, [callback.state.name, callback.result()])
        except Exception as error:
            note(ident, [callback.state.name, type(error).__name__])
    return HttpResponse(BODY)


# Context.


@both
def speaks_french(request: HttpRequest, ident: str) -> HttpResponse:
    with translation.override("fr"):
        keep(ident, after_response(work.look_around, ident))
        keep(ident, after_response(work.alook_around, ident))
    # Neither the request's own language, nor what the first two have set.
    keep(ident, after_response(work.look_around, ident))
    keep(ident, after_response(work.alook_around, ident))
    return HttpResponse(translation.gettext("Monday"))


@both
def sets_variable(request: HttpRequest, ident: str) -> HttpResponse:
    for value in ("first", "second"):
        work.variable.set(value)
        keep(ident, after_response(work.look_around, ident))
        keep(ident, after_response(work.alook_around, ident))
    work.variable.set("too late")
    return HttpResponse(BODY)


@both
def greets(request: HttpRequest, ident: str) -> HttpResponse:
    keep(ident, after_response(work.greet, ident, request))
    keep(ident, after_response(work.agreet, ident, request))
    return HttpResponse(BODY)


# Database.


def writes(request: HttpRequest, ident: str) -> HttpResponse:
    Row.objects.create(text=ident)
    keep(ident, after_response(work.write, ident))
    keep(ident, after_response(work.awrite, ident))
    keep(ident, after_response(work.write, ident))
    keep(ident, after_response.using(concurrent=True)(work.awrite, f"concurrent {ident}"))
    return HttpResponse(BODY)


async def awrites(request: HttpRequest, ident: str) -> HttpResponse:
    await Row.objects.acreate(text=ident)
    keep(ident, await aafter_response(work.write, ident))
    keep(ident, await aafter_response(work.awrite, ident))
    keep(ident, await aafter_response(work.write, ident))
    keep(ident, await aafter_response.using(concurrent=True)(work.awrite, f"concurrent {ident}"))
    return HttpResponse(BODY)


pair(writes, awrites)


# Scopes, threads.


def opens_scope(request: HttpRequest, ident: str) -> HttpResponse:
    keep(ident, after_response(note, ident, "exchange"))
    with exchange_scope():
        keep(ident, after_response(note, ident, "scope"))
        keep(ident, after_response(anote, ident, "async in scope"))
        note(ident, "in scope")
    keep(ident, after_response(anote, ident, "async in exchange"))
    note(ident, "view")
    return HttpResponse(BODY)


async def aopens_scope(request: HttpRequest, ident: str) -> HttpResponse:
    keep(ident, after_response(note, ident, "exchange"))
    async with exchange_scope():
        keep(ident, after_response(note, ident, "scope"))
        keep(ident, after_response(anote, ident, "async in scope"))
        note(ident, "in scope")
    keep(ident, after_response(anote, ident, "async in exchange"))
    note(ident, "view")
    return HttpResponse(BODY)


pair(opens_scope, aopens_scope)


@both
def is_late(request: HttpRequest, ident: str) -> HttpResponse:
    """A thread, which knows no context, registers while the view runs and
    again when all is over."""
    registered = threading.Event()

    def work_on() -> None:
        try:
            after_response(note, ident, "without a request")
        except NoActiveExchange:
            note(ident, "no exchange")
        registrar = after_response.using(request=request)
        first = keep(ident, registrar(note, ident, "early"))
        registered.set()
        deadline = time.monotonic() + work.DEADLINE
        while not first.done() and time.monotonic() < deadline:
            time.sleep(0.005)
        keep(ident, registrar(note, ident, "late"))
        keep(ident, registrar(anote, ident, "late and async"))

    threading.Thread(target=work_on, name="of the view").start()
    registered.wait(work.DEADLINE)
    note(ident, "view")
    return HttpResponse(BODY)


_requests: dict[str, HttpRequest] = {}


@both
def is_kept(request: HttpRequest, ident: str) -> HttpResponse:
    """Registers nothing; another request does it for this one, which is over by then."""
    _requests[ident] = request
    return HttpResponse(BODY)


@both
def registers_for(request: HttpRequest, ident: str) -> HttpResponse:
    registrar = after_response.using(request=_requests.pop(request.GET["ident"]))
    keep(ident, registrar.using(takes_outcome=True)(work.see, ident))
    keep(ident, registrar(anote, ident, "async"))
    return HttpResponse(BODY)
