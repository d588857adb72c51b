"""From ended exchanges that have no event loop to the lanes."""

import functools
from collections.abc import Callable
from typing import Any

from ..capacity import Capacity, Chain
from ..exchange import Callback, Exchange
from .dispatch import Dispatcher


class ThreadDispatcher(Dispatcher):
    """For exchanges without an event loop: coroutine functions run on the
    runner's background loop."""

    def __init__(self, capacity: Capacity, heir: Callable[[], Dispatcher]) -> None:
        super().__init__(capacity, heir)
        self._followed_by: dict[None, ThreadDispatcher] = {}

    def followed_by(self, made: "ThreadDispatcher") -> "ThreadDispatcher":
        """Who comes after this one, which is shut: the first that was made for it."""
        return self._followed_by.setdefault(None, made)

    def _limit_waiting(self, exchange: Exchange) -> None:
        if self.capacity.starts.is_here():
            # Its thread must not wait for handlers of the user's, who hear of what is dropped.
            if self.capacity.backpressure.is_over():
                later = functools.partial(self.capacity.limit_waiting, exchange)
                self.capacity.timers.call_later(0.0, later)
        else:
            self.capacity.limit_waiting(exchange)

    def start_async(self, chain: Chain, callback: Callback[Any]) -> bool:
        return self.capacity.background.start(chain, callback)
