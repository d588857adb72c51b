"""A ``Server-Timing`` header, and in the log the real time to the last byte.

First in MIDDLEWARE, behind ``async_after.django.AfterResponseMiddleware``. The
header (browsers show it under "Network") leaves before the body, so it can only
tell what the application took to answer; how long the body took is known
afterwards. Everybody can read the header: leave it out where that says too much.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils.decorators import sync_and_async_middleware

from async_after import Outcome, RunnerFull, after_response

logger = logging.getLogger(__name__)


@sync_and_async_middleware
def server_timing(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    if iscoroutinefunction(get_response):

        async def atimed(request: HttpRequest) -> HttpResponseBase:
            begun = time.perf_counter()
            return _timed(await get_response(request), time.perf_counter() - begun)

        return atimed

    def timed(request: HttpRequest) -> HttpResponseBase:
        begun = time.perf_counter()
        return _timed(get_response(request), time.perf_counter() - begun)

    return timed


def _timed(response: HttpResponseBase, seconds: float) -> HttpResponseBase:
    metrics = [response.headers["Server-Timing"]] if "Server-Timing" in response.headers else []
    response.headers["Server-Timing"] = ", ".join([*metrics, f"app;dur={seconds * 1000:.1f}"])
    with suppress(RunnerFull):  # with OVERFLOW "raise": watching must break no page
        after_response.using(takes_outcome=True)(_log_last_byte, seconds)
    return response


def _log_last_byte(outcome: Outcome, seconds: float) -> None:
    # %r, as a path may hold a line break.
    logger.info(
        "%s %r: app %.1f ms, last byte %.1f ms (%s)",
        outcome.method,
        outcome.path,
        seconds * 1000,
        outcome.duration * 1000,
        outcome.completion.value,
    )


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Hello World", headers={"Server-Timing": "db;dur=0.5"})


urlpatterns = [path("hello", hello)]
