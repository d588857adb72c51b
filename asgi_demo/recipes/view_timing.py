"""How long each URL's view takes, and how long until its last byte was sent.

Last in MIDDLEWARE, so that only the view itself is timed. What is summed up
belongs to a route (``"article/<int:pk>"``), not to a path, of which there is no end.
The numbers are of one process: a server with several has so many tables.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils.decorators import sync_and_async_middleware

from async_after import Outcome, after_response


@dataclass
class Timing:
    responses: int = 0
    view_seconds: float = 0.0
    total_seconds: float = 0.0
    slowest: float = 0.0


_lock = threading.Lock()
_timings: defaultdict[str, Timing] = defaultdict(Timing)


@sync_and_async_middleware
def view_timing(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    if iscoroutinefunction(get_response):

        async def atimed(request: HttpRequest) -> HttpResponseBase:
            begun = time.perf_counter()
            return _timed(request, await get_response(request), begun)

        return atimed

    def timed(request: HttpRequest) -> HttpResponseBase:
        begun = time.perf_counter()
        return _timed(request, get_response(request), begun)

    return timed


def _timed(request: HttpRequest, response: HttpResponseBase, begun: float) -> HttpResponseBase:
    seconds = time.perf_counter() - begun
    if request.resolver_match is not None:  # None: no route fits, a 404
        after_response.using(takes_outcome=True)(_add, request.resolver_match.route, seconds)
    return response


def _add(outcome: Outcome, route: str, seconds: float) -> None:
    with _lock:
        timing = _timings[route]
        timing.responses += 1
        timing.view_seconds += seconds
        timing.total_seconds += outcome.duration
        timing.slowest = max(timing.slowest, outcome.duration)


def timings(request: HttpRequest) -> JsonResponse:
    """Not for everybody: it names your URLs."""
    with _lock:
        found = {route: asdict(timing) for route, timing in _timings.items()}
    return JsonResponse(found)


urlpatterns = [path("timings", timings)]
