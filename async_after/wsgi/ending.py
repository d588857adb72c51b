"""Ends one exchange, once, and lets its callbacks run."""

import _thread
from typing import Protocol

from .._core.exchange import Exchange
from .._core.runner import Dispatcher
from .environ import WsgiExchange


class Lane(Protocol):
    """Where the callbacks of one exchange run, from its beginning."""

    @property
    def host(self) -> Dispatcher: ...

    def run(self, exchange: Exchange) -> None:
        """In ``close()``: the exchange has ended, and has callbacks."""

    def run_soon(self, exchange: Exchange) -> None:
        """Without ``close()``: when control is back with the server. Any thread may call."""

    def finish(self, exchange: Exchange) -> None:
        """It has ended without callbacks: what is registered later is late."""


class Ending:
    """Whoever comes first ends the exchange; the others change nothing."""

    def __init__(self, exchange: WsgiExchange, lane: Lane) -> None:
        self.exchange = exchange
        self._lane = lane

    def end(self, error: BaseException | None = None) -> None:
        """From ``close()``."""
        if self._ends(error):
            try:
                self._lane.run(self.exchange)
            except RecursionError:  # there is no stack left for it
                _thread.start_new_thread(self._lane.run_soon, (self.exchange,))

    def end_soon(self, error: BaseException | None = None) -> None:
        """Without ``close()``. Any thread may call."""
        if self._ends(error):
            self._lane.run_soon(self.exchange)

    def _ends(self, error: BaseException | None) -> bool:
        """End it; whether it has callbacks, which are to be run."""
        if self.exchange.is_ended:
            return False
        has_callbacks = self.exchange.end(error)
        if not has_callbacks:
            self._lane.finish(self.exchange)
        return has_callbacks
