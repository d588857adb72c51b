"""Views for promises that take more than one callback to be seen. None knows how it is served."""

import asyncio
import threading
import time
from typing import Any

from django.http import HttpRequest, HttpResponse

from async_after import Outcome, after_response

from . import work
from .serving import BODY, both
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
