"""Callbacks that wait until their response is acknowledged (``when="acknowledged"``).

No event tells of that: the connection is looked at again and again, once for
all of an exchange's callbacks, so that they go on in order (promise 6).
"""

import dataclasses
import threading
import time
from functools import partial
from typing import Any

from ..capacity import reports
from ..delivery import Delivery, Wait
from ..exchange import Callback, CallbackState, Exchange
from ..lanes import CLOSED_LOOP

DELIVERY_TIMEOUT = 5.0
"""Seconds by default: a client that has not taken its response by then may never."""

Ends = dict[Callback[Any], float]
"""When the time of each is up."""


class Acknowledgements:
    """The ended exchanges of one dispatcher that are watched."""

    def __init__(self, later: reports.Later) -> None:
        """``later``: raises ``RuntimeError`` if there is no later."""
        self._later = later
        self._lock = threading.Lock()
        self._watched: set[Exchange] = set()

    def watch(self, exchange: Exchange) -> None:
        """It has ended: make those that wait ready when their time comes, or skip them."""
        outcome = exchange.sealed
        if outcome.connection is None or outcome.delivery is Delivery.ACKNOWLEDGED:
            self._tell(exchange, outcome.delivery)
            return
        with self._lock:
            if exchange in self._watched:
                return
            self._watched.add(exchange)
        # Not at once: this may be called in the middle of the end.
        self._look_in(0.0, exchange, outcome._waiting("acknowledged"), {})

    def abandon(self) -> None:
        """There is no later any more: the loop is closed."""
        with self._lock:
            watched, self._watched = self._watched, set()
        for exchange in watched:
            for callback in exchange.queue.unacknowledged():
                exchange.drop(callback, CLOSED_LOOP, if_pending=True)

    def _look_in(self, seconds: float, exchange: Exchange, wait: Wait, ends: Ends) -> None:
        try:
            self._later(seconds, partial(self._look, exchange, wait, ends))
        except RuntimeError:
            self.abandon()

    def _look(self, exchange: Exchange, wait: Wait, ends: Ends) -> None:
        pause = wait.look()
        if pause is None:
            with self._lock:
                self._watched.discard(exchange)
            self._tell(exchange, wait.reached)
            return
        now = time.monotonic()
        for callback in exchange.queue.unacknowledged():
            timeout = callback.options.delivery_timeout or DELIVERY_TIMEOUT
            if now >= ends.setdefault(callback, now + timeout):
                _skip(exchange, callback)
        with self._lock:
            # Under the lock: one that comes now is seen here, or watched anew.
            is_over = not exchange.queue.unacknowledged()
            if is_over:
                self._watched.discard(exchange)
        if not is_over:
            self._look_in(pause, exchange, wait, ends)

    def _tell(self, exchange: Exchange, level: Delivery) -> None:
        """This is how far it got."""
        for callback in exchange.queue.unacknowledged():
            if level is Delivery.ACKNOWLEDGED:
                exchange.ready(callback, dataclasses.replace(exchange.sealed, delivery=level))
            else:
                _skip(exchange, callback)


def _skip(exchange: Exchange, callback: Callback[Any]) -> None:
    exchange.settle(callback, CallbackState.SKIPPED, expected=CallbackState.PENDING)
