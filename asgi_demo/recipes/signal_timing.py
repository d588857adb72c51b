"""Time requests by a signal, correctly under threads and under asyncio.

In a module that ``AppConfig.ready()`` imports. Django's own pair, ``request_started``
and ``request_finished``, cannot do it: the second does not say which request has
ended, and a start time kept in a thread or a global is another request's as soon
as there are two. ``response_finished`` names the request, and its outcome the times.
"""

import logging
from typing import Any

from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.urls import path

from async_after import Outcome
from async_after.django import response_finished

logger = logging.getLogger(__name__)

SLOW = 1.0
"""Seconds after which it is a warning."""


@receiver(response_finished)
def log_time(request: HttpRequest, outcome: Outcome, **kwargs: Any) -> None:
    first = outcome.time_to_first_byte
    # %r, as a path may hold a line break.
    logger.log(
        logging.INFO if outcome.duration < SLOW else logging.WARNING,
        "%s %r %s: %s, %s s to the first byte, %.6f s to the last",
        outcome.method,
        outcome.path,
        outcome.status,
        outcome.completion.value,
        "no" if first is None else f"{first:.6f}",
        outcome.duration,
    )


def hello(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(f"Hello {name}", content_type="text/plain")


urlpatterns = [path("hello/<name>", hello)]
