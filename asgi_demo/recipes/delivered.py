"""Log whether the response was delivered.

"How to tell in Django whether the response has been sent successfully?" Put this
next to your views, and return LogSuccessResponse where you returned HttpResponse.
*Delivered* goes by what TCP tells: the client's kernel has acknowledged every byte.
Behind a proxy that is the proxy's. *Not confirmed* means neither yes nor no: a slow
client, one that closed at once, or a server that shows no connections (README; the
Django middleware alone sees none under ASGI). A response out of a cache logs nothing.
"""

import logging
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from async_after import Completion, Delivery, Outcome, after_response

logger = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds for slow clients; each takes a callback's place meanwhile (``LIMIT``)."""


class LogDeliveryMixin:
    """Logs what becomes of the response of this request, whatever is sent in its place."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # It may take a while: concurrent, so that other callbacks need not wait for it.
        log = after_response.using(takes_outcome=True, concurrent=True, key="log_delivery")
        log(log_delivery)


class LogSuccessResponse(LogDeliveryMixin, HttpResponse):
    pass


class LogSuccessStream(LogDeliveryMixin, StreamingHttpResponse):
    pass


async def log_delivery(outcome: Outcome) -> None:
    level, verdict = logging.WARNING, f"not delivered ({outcome.completion.value})"
    if outcome.completion is Completion.SENT:
        reached = await outcome.wait_delivered("acknowledged", timeout=PATIENCE)
        is_delivered = reached is Delivery.ACKNOWLEDGED
        level, verdict = logging.INFO, "delivered" if is_delivered else "sent, not confirmed"
    # %r, as a path may hold a line break.
    logger.log(level, "%s %r %s: %s", outcome.method, outcome.path, outcome.status, verdict)


def hello(request: HttpRequest) -> HttpResponse:
    return LogSuccessResponse("Hello World", content_type="text/plain")


urlpatterns = [path("hello", hello)]
