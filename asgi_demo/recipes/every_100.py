"""A line in the log after every 100 requests: how many failed, how long they took.

In a module that ``AppConfig.ready()`` imports. The count is of one process, which
the line names: a server with several workers reports for each of them.
"""

import logging
import os
import threading
from typing import Any

from django.dispatch import receiver
from django.http import HttpRequest, JsonResponse
from django.urls import path

from async_after import Completion, Outcome
from async_after.django import response_finished

logger = logging.getLogger(__name__)

EVERY = 100


class Tally:
    """Responses are counted in many threads at once."""

    def __init__(self) -> None:
        self.total = 0
        self._failed = self._left = 0
        self._seconds: list[float] = []
        self._lock = threading.Lock()

    def add(self, outcome: Outcome) -> str | None:
        """The report, if this was the last one of ``EVERY``."""
        with self._lock:
            self.total += 1
            self._left += outcome.completion is Completion.DISCONNECTED
            self._failed += outcome.status is None or outcome.status >= 500
            self._seconds.append(outcome.duration)
            if len(self._seconds) < EVERY:
                return None
            mean, slowest = sum(self._seconds) / EVERY, max(self._seconds)
            report = (
                f"requests {self.total - EVERY + 1} to {self.total}: {self._failed} failed,"
                f" {self._left} left early, {mean:.3f} s on average, {slowest:.3f} s at most"
            )
            self._failed = self._left = 0
            self._seconds.clear()
            return report


tally = Tally()


@receiver(response_finished)
def count(outcome: Outcome, **kwargs: Any) -> None:
    report = tally.add(outcome)
    if report is not None:
        logger.info("process %d, %s", os.getpid(), report)


def total(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"process": os.getpid(), "requests": tally.total})


urlpatterns = [path("total", total)]
