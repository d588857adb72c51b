"""The background loop under gevent, in a native thread (see ``runtime.greenlets``).

Each callback's end is handed back to the hub: books, locks and worker
greenlets belong there.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..exchange import Callback, CallbackState, Exchange, Lane
from ..runtime import gevent
from .base import ChainLike


class Remote:
    """Stands in for a chain in a native thread: passes on what it is told, in the hub, when
    the callback has ended."""

    # The next one is started from the hub.
    goes_on = False
    is_over = False
    following = None

    def __init__(self, chain: ChainLike, hub: gevent.Hub) -> None:
        self._chain = chain
        self._hub = hub
        self._told: list[Callable[[], object]] = []
        self.exchange: Any = _RemoteExchange(chain.exchange, self._told)

    def take(self, lanes: Sequence[Lane] | None = None) -> Callback[Any] | None:
        # The next one is started from the hub.
        return None

    def drop(self, reason: str) -> None:
        self._told.append(functools.partial(self._chain.drop, reason))

    def advance(self) -> None:
        self._told.append(self._chain.advance)
        self._hub.call(self.tell)

    def tell(self) -> None:
        """In the hub: what has become of the callback."""
        while self._told:
            self._told.pop(0)()

    def timeout_of(self, callback: Callback[Any]) -> float | None:
        return self._chain.timeout_of(callback)


class _RemoteExchange:
    """What the steps of a callback ask of its exchange."""

    def __init__(self, exchange: Exchange, told: list[Callable[[], object]]) -> None:
        self.sealed = exchange.sealed
        self._exchange = exchange
        self._told = told

    def settle(
        self,
        callback: Callback[Any],
        state: CallbackState,
        result: Any = None,
        exception: BaseException | None = None,
        *of_turn: object,
    ) -> bool:
        self._told.append(
            functools.partial(self._exchange.settle, callback, state, result, exception)
        )
        return True

    def drop(self, callback: Callback[Any], reason: str) -> bool:
        self._told.append(functools.partial(self._exchange.drop, callback, reason))
        return True
