"""Who comes between a registration and its exchange: the testing tools.

Outside of tests nobody does, and a registration only looks whether there is one.
"""

import threading
from typing import Any

from ..exchange import Callback, Exchange
from . import on_commit


class Interceptor:
    """Hears of every registration in the process, in the thread where it happens."""

    def hold(self, exchange: Exchange, callback: Callback[Any]) -> bool:
        """Keep it from running, by ``register(Held(exchange), callback)``;
        ``False`` leaves it to others."""
        return False

    def hear(self, exchange: Exchange, callback: Callback[Any]) -> bool:
        """It is registered, and nobody holds it; ``False`` lets others hear of it, too."""
        return False


interceptors: tuple[Interceptor, ...] = ()
"""Those that are active, the innermost last."""
_lock = threading.RLock()  # a destructor may come back here


def enter(interceptor: Interceptor) -> None:
    global interceptors
    with _lock:
        interceptors = (*interceptors, interceptor)


def leave(interceptor: Interceptor) -> None:
    global interceptors
    with _lock:
        interceptors = tuple(other for other in interceptors if other is not interceptor)


def add(exchange: Exchange, callback: Callback[Any], *, can_be_held: bool) -> None:
    """Register it where the innermost interceptor wants it. ``can_be_held``: the
    code that answers the request has registered it, and not the set-up of the app."""
    innermost_first = interceptors[::-1]
    if can_be_held and any(each.hold(exchange, callback) for each in innermost_first):
        return
    register(exchange, callback)
    any(each.hear(exchange, callback) for each in innermost_first)


def register(exchange: "Exchange | Held", callback: Callback[Any]) -> None:
    place: Any = exchange
    if callback.options.on_commit:
        on_commit.add(place, callback, callback.options.on_commit)
    else:
        place.add(callback)


class Held:
    """Stands in for the exchange of one callback, which stays dormant there.

    A commit does not make it run, but a rollback makes it SKIPPED as ever.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._is_committed = False

    def add(self, callback: Callback[Any], *, dormant: bool = True) -> None:
        self._exchange.add(callback, dormant=True)

    def ready(self, callback: Callback[Any]) -> None:
        self._is_committed = True

    def skip_dormant(self, callback: Callback[Any]) -> None:
        if not self._is_committed:
            self._exchange.skip_dormant(callback)
