"""``response_finished``: a Django signal that knows what became of the response.

Promise 5, isolated: each receiver is a callback of its own, and so runs where
its kind belongs, is logged by its name when it fails, and stops nobody.
Promise 12, idle_cost: without receivers nothing is registered.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.dispatch import Signal
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .._core.exchange import Exchange, Options, Outcome, name_of
from .._core.registration import AfterResponseWithOutcome
from .._core.runtime import log

response_finished: Signal = Signal()
"""Sent after the response of each request that passes the Django middleware.

Receivers may be plain or ``async def``, and get

``sender``: the class of the middleware, as ``request_finished`` has that of the
handler; ``request``; ``response``: the one that the middleware has returned, or
``None`` if there was none, or it was thrown away unsent, as for a client that
left meanwhile; ``outcome``: the ``Outcome``.

They are called in no order. What they return is ignored.
"""

Seen = Callable[[], HttpResponseBase | None]
"""Asked for the response when the signal is sent."""


def announce(exchange: Exchange, sender: type, request: HttpRequest, seen: Seen) -> bool:
    """Register those who receive the signal now; whether there are any. It harms nobody.

    Not ``send_robust()``: it calls plain receivers and coroutine functions in
    one place, whereas no lane is good for both; its log names no request; and
    a ``SystemExit``, or a receiver without ``__qualname__`` that fails, ends it.
    And concurrent: a slow receiver, perhaps of another app, holds no callback
    of the view up, and a slow callback makes no receiver late.
    """
    if not response_finished.receivers:
        return False
    try:
        # The one door to Signal._live_receivers, which others patch (Sentry) to
        # hear of receivers: Django has no public way to get at them.
        plain, coroutine_functions = response_finished._live_receivers(sender)
        named = {"signal": response_finished, "sender": sender, "request": request}
        for call, receivers in ((_call, plain), (_acall, coroutine_functions)):
            for receiver in receivers:
                options = Options(takes_outcome=True, concurrent=True, name=name_of(receiver))
                receive = partial(call, receiver, named, seen)
                AfterResponseWithOutcome(options).on(exchange, receive)
    except ImproperlyConfigured:
        message = "response_finished of %s is not sent: ASYNC_AFTER has become wrong"
        log("exception", "settings_wrong", message, exchange.label(), of=exchange)
        return False
    return bool(plain or coroutine_functions)


def _call(receiver: Callable[..., Any], named: dict[str, Any], seen: Seen, outcome: Outcome) -> Any:
    return receiver(response=seen(), outcome=outcome, **named)


async def _acall(
    receiver: Callable[..., Any], named: dict[str, Any], seen: Seen, outcome: Outcome
) -> Any:
    return await receiver(response=seen(), outcome=outcome, **named)
