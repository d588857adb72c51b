"""Callbacks that wait until their response is acknowledged (``when="acknowledged"``).

No event tells of that: the connection is looked at again and again, once for
all of an exchange's callbacks, so that they go on in order (promise 6).
"""

import dataclasses
from functools import partial
from typing import Any

from ..capacity import reports
from ..delivery import Delivery, Wait
from ..exchange import Callback, CallbackState, Exchange
from ..lanes import CLOSED_LOOP
from ..runtime import monotonic

DELIVERY_TIMEOUT = 5.0
"""Seconds by default: a client that has not taken its response by then may never."""

Ends = dict[Callback[Any], float]
"""When the time of each is up."""


class Acknowledgements:
    """The ended exchanges of one dispatcher that are watched."""

    def __init__(self, later: reports.Later) -> None:
        """``later``: raises ``RuntimeError`` if there is no later."""
        self._later = later
        # No lock: a destructor may come back here, and a fork. Each step is one call.
        self._watched: dict[Exchange, object] = {}

    def watch(self, exchange: Exchange) -> None:
        """It has ended: make those that wait ready when their time comes, or skip them."""
        outcome = exchange.sealed
        if outcome.connection is None or outcome.delivery is Delivery.ACKNOWLEDGED:
            self._tell(exchange, outcome.delivery)
            return
        mine = object()
        if self._watched.setdefault(exchange, mine) is not mine:
            return
        # Not at once: this may be called in the middle of the end.
        self._look_in(0.0, exchange, outcome._waiting("acknowledged"), {})

    def abandon(self) -> None:
        """There is no later any more: the loop is closed."""
        while self._watched:
            try:
                exchange, _ = self._watched.popitem()
            except KeyError:  # another thread was faster
                return
            for callback in _waiting(exchange):
                exchange.drop(callback, CLOSED_LOOP, if_pending=True)

    def _look_in(self, seconds: float, exchange: Exchange, wait: Wait, ends: Ends) -> None:
        try:
            self._later(seconds, partial(self._look, exchange, wait, ends))
        except RuntimeError:
            self.abandon()

    def _look(self, exchange: Exchange, wait: Wait, ends: Ends) -> None:
        pause = wait.look()
        if pause is None:
            self._watched.pop(exchange, None)
            self._tell(exchange, wait.reached)
            return
        now = monotonic()
        for callback in _waiting(exchange):
            timeout = callback.options.delivery_timeout or DELIVERY_TIMEOUT
            if now >= ends.setdefault(callback, now + timeout):
                _skip(exchange, callback)
        if _waiting(exchange):
            self._look_in(pause, exchange, wait, ends)
            return
        self._watched.pop(exchange, None)
        if _waiting(exchange):  # it has come since, and has seen it watched
            self.watch(exchange)

    def _tell(self, exchange: Exchange, level: Delivery) -> None:
        """This is how far it got."""
        for callback in _waiting(exchange):
            if level is Delivery.ACKNOWLEDGED:
                exchange.ready(callback, dataclasses.replace(exchange.sealed, delivery=level))
            else:
                _skip(exchange, callback)


def _skip(exchange: Exchange, callback: Callback[Any]) -> None:
    exchange.settle(callback, CallbackState.SKIPPED, expected=CallbackState.PENDING)


def _waiting(exchange: Exchange) -> list[Callback[Any]]:
    return exchange.host.ledger.gate.look(exchange.queue.unacknowledged)
