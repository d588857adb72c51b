"""What a lane runs, and what is done around it."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from ..exchange import Callback, Exchange, Lane
from .surroundings import Surroundings


class ChainLike(Protocol):
    """What the runner has given a slot to, seen from a lane."""

    exchange: Exchange

    def take(self, lanes: Sequence[Lane] | None = None) -> Callback[Any] | None:
        """The next callback, RUNNING, if it belongs to one of these lanes."""

    @property
    def goes_on(self) -> bool:
        """Whether it is a turn (``Exchange.settle``), and so has a next one as ``following``."""

    @property
    def following(self) -> Callback[Any] | None: ...

    is_over: bool
    """Nothing was left when the last one was settled, and its slot is given back. Otherwise, and
    where none follows, ``advance`` goes on."""

    def drop(self, reason: str) -> None:
        """Give up those that have not been taken."""

    def advance(self) -> None:
        """Go on with the next one, wherever it belongs, or give the slot back."""

    def timeout_of(self, callback: Callback[Any]) -> float | None: ...


class LaneLike(Protocol):
    """What is done around the coroutine functions of a loop."""

    loop: asyncio.AbstractEventLoop
    surroundings: Surroundings

    def start(self, chain: ChainLike, callback: Callback[Any]) -> object: ...

    def forget(self, steps: Any) -> None: ...

    def slow_step(self, callback: Callback[Any], seconds: float) -> None:
        """A step has held the loop for that long."""

    def is_ending(self) -> bool:
        """Whether the loop would run no new task, if one was cancelled from outside."""
