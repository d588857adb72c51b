"""Which of the callbacks that a test has held back can start, and when.

They start in the order of their registration, over all exchanges, and those that
they register are held back and start, too: beside the others where they are
concurrent, as one may wait for another.
"""

import dataclasses
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from .._core.capacity import Chain, SingleChain
from .._core.delivery import Wait
from .._core.exchange import Callback, CallbackState, Exchange, current_exchange
from .._core.lanes import note
from .._core.runner import DELIVERY_TIMEOUT, InlineDispatcher, Runner, Work
from .._core.runtime import monotonic

END_TIMEOUT = 5.0
"""Seconds until the responses must have ended. A client has its response a moment before
its server, in another thread, has ended it."""
_PAUSE = 0.005
"""Seconds between two looks at what no event tells."""

Registration = tuple[Exchange, Callback[Any]]
_Place = tuple[int, Exchange, Callback[Any]]


def surrounding() -> list[Exchange]:
    """The open exchanges that this is called in, which cannot end before it returns."""
    found: list[Exchange] = []
    exchange = current_exchange.get()
    while exchange is not None:
        if not exchange.is_ended:
            found.append(exchange)
        exchange = exchange.parent
    return found


def error_of(callback: Callback[Any]) -> BaseException | None:
    """Why it failed, timed out or was dropped, with a note that names it; else ``None``."""
    if callback.state not in _BAD:
        return None
    error = callback.exception()
    if error is not None:
        note(error, f"In callback {callback.describe()}.")
    return error


_BAD = (CallbackState.FAILED, CallbackState.TIMED_OUT, CallbackState.DROPPED)


class Execution:
    """Of what is, and what comes, in a list of held registrations."""

    def __init__(self, held: Sequence[Registration]) -> None:
        self._held = held
        self._taken_in = 0
        """So many of them stand in the line, or beside it, or have been there."""
        self._line: deque[_Place] = deque()
        self._beside: list[_Place] = []
        self._turn: _Turn | None = None
        """The last one that was taken from the line."""
        self._starters: dict[Runner, InlineDispatcher] = {}
        self._deadline = monotonic() + END_TIMEOUT
        self._surrounding = surrounding()
        self._deliveries: dict[Callback[Any], Wait] = {}
        self._refused: dict[Callback[Any], RuntimeError] = {}

    def work(self) -> Work:
        """For an ``InlineDispatcher`` where the test is."""
        return Work(self._pending, self._claim, _PAUSE)

    def _pending(self) -> list[Callback[Any]]:
        """The first one in the line, and those beside it."""
        for exchange, callback in self._held[self._taken_in :]:
            places = self._beside if callback.options.concurrent else self._line
            places.append((self._taken_in, exchange, callback))
            self._taken_in += 1
        while self._line and self._line[0][2].done():
            self._line.popleft()
        self._beside = [place for place in self._beside if not place[2].done()]
        return [place[2] for place in (*self._beside, *islice(self._line, 1))]

    def _claim(self) -> list[Chain]:
        self._pending()
        beside, self._beside = self._beside, []
        due: list[_Place] = []
        for place in beside:
            (due if self._is_due(*place[1:]) else self._beside).append(place)
        is_free = self._turn is None or self._turn.is_over
        in_line = self._take_turn() if is_free else None
        chains: list[Chain] = []
        for place in sorted([*due, in_line] if in_line else due):
            chains.append(turn := _Turn(self._starter(place[1]), *place[1:]))
            self._turn = turn if place is in_line else self._turn
        return chains

    def _take_turn(self) -> _Place | None:
        """The first in the line, if it can start. What never can is passed over."""
        while self._line:
            _, exchange, callback = self._line[0]
            if not callback.done():
                if self._is_due(exchange, callback):
                    return self._line.popleft()
                if not callback.done():
                    break
            self._line.popleft()
        return None

    def _starter(self, exchange: Exchange) -> InlineDispatcher:
        """Of the exchange's runner: its own dispatcher may be shut, or keep time in a thread."""
        host: Any = exchange.host
        runner = host.capacity.owner
        if runner not in self._starters:
            self._starters[runner] = InlineDispatcher(runner)
        return self._starters[runner]

    def errors(self) -> list[BaseException]:
        """What went wrong, in the order of registration."""
        found = [self._refused.get(c, error_of(c)) for _, c in self._held]
        return [error for error in found if error is not None]

    def _is_due(self, exchange: Exchange, callback: Callback[Any]) -> bool:
        """Whether it can start now. What never can is SKIPPED."""
        if exchange.is_ended:
            return callback.options.when != "acknowledged" or self._is_delivered(exchange, callback)
        if exchange in self._surrounding:
            if not callback.options.asks:
                return True
            self._refuse(
                exchange,
                callback,
                "has not ended, so there is no outcome to ask for. Let it end inside the"
                " block: with capture_after_response(execute=True), exchange_scope(): ...",
            )
        elif monotonic() > self._deadline:
            self._refuse(
                exchange,
                callback,
                f"did not end within {END_TIMEOUT:g} s. Inside the block, read a streamed"
                " response to its end, or close it. Where its server runs on the event loop of"
                " the test, use 'async with'",
            )
        return False

    def _is_delivered(self, exchange: Exchange, callback: Callback[Any]) -> bool:
        outcome = exchange.sealed
        wait = self._deliveries.get(callback)
        if wait is None:
            timeout = callback.options.delivery_timeout or DELIVERY_TIMEOUT
            wait = self._deliveries[callback] = outcome._waiting("acknowledged", timeout)
        if wait.look() is not None:
            return False
        if wait.is_reached:
            callback._outcome = dataclasses.replace(outcome, delivery=wait.reached)
        else:
            exchange.skip_dormant(callback)
        return wait.is_reached

    def _refuse(self, exchange: Exchange, callback: Callback[Any], reason: str) -> None:
        self._refused[callback] = RuntimeError(
            f"capture_after_response(execute=True) cannot run callback {callback.name}:"
            f" {exchange.label()} {reason}."
        )
        exchange.skip_dormant(callback)


class _Turn(SingleChain):
    """One callback of its exchange, which its runner hears of."""

    is_over = False

    def is_empty(self) -> bool:
        # Asked last when the callback has ended, and all was done behind it.
        self.is_over = super().is_empty()
        return self.is_over
