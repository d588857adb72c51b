"""What a lane runs, and what is done around it."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextvars import Context
from typing import Any, Protocol

from ..exchange import Callback, Exchange, Lane


class ChainLike(Protocol):
    """What the runner has given a slot to, seen from a lane."""

    exchange: Exchange

    def take(self, lanes: Sequence[Lane] | None = None) -> Callback[Any] | None:
        """The next callback, RUNNING, if it belongs to one of these lanes."""

    def follow(
        self, callback: Callback[Any], result: Any, lanes: Sequence[Lane]
    ) -> Callback[Any] | None:
        """``callback`` has returned ``result``: settle it, and take the next one;
        ``None``, and nothing done, where that is not all there is to do."""

    def drop(self, reason: str) -> None:
        """Give up those that have not been taken."""

    def advance(self) -> None:
        """Go on with the next one, wherever it belongs, or give the slot back."""

    def timeout_of(self, callback: Callback[Any]) -> float | None: ...


class LaneLike(Protocol):
    """What is done around the coroutine functions of a loop."""

    loop: asyncio.AbstractEventLoop

    def start(self, chain: ChainLike, callback: Callback[Any]) -> None: ...

    def enter(self, callback: Callback[Any]) -> None:
        """Prepare the callback's own context, from inside."""

    def leave(self, callback: Callback[Any], context: Context) -> Coroutine[Any, Any, None] | None:
        """Clean up after it; what is left to be awaited, if anything."""

    def lose(self, callback: Callback[Any]) -> None:
        """The same for a loop that is closed."""

    def forget(self, steps: Any) -> None: ...

    def slow_step(self, callback: Callback[Any], seconds: float) -> None:
        """A step has held the loop for that long."""

    def is_ending(self) -> bool:
        """Whether the loop would run no new task, if one was cancelled from outside."""
