"""``raise_callback_errors``: no test passes while a callback fails in the log only."""

import asyncio
from collections.abc import Iterator
from threading import TIMEOUT_MAX
from typing import Any

from .._core.conf import Check, at_most
from .._core.exchange import Callback, Exchange
from .._core.runner import LoopDispatcher
from .._core.runtime import Latch, clock, monotonic, running_loop
from .blocks import Block, raise_all
from .execution import Registration, error_of, surrounding

_SECONDS = Check(
    clock.is_seconds, "a number of seconds above 0", (int, float), at_most(TIMEOUT_MAX)
)


class raise_callback_errors(Block):  # noqa: N801
    """Raises, at the end of the block, what callbacks that were registered
    inside have raised; several errors as an ``ExceptionGroup``.

    One that has timed out is a ``TimeoutError``, one that was dropped a
    ``CallbackNotRun``. Those that still run or wait, on the runner's threads or
    loop, are waited for: all together up to ``timeout`` seconds, after which
    each that is left is a ``TimeoutError``. Not waited for are those that cannot
    run before the block is left: of an exchange around it, or for a commit.
    What an inner block captures is left to that. If the block itself raises,
    nothing is waited for.
    """

    def __init__(self, *, timeout: float = 5.0) -> None:
        wrong = _SECONDS.refuse(timeout)
        if wrong is not None:
            raise wrong(f"raise_callback_errors(timeout=...) {_SECONDS.message(timeout)}")
        super().__init__()
        self._timeout = timeout
        self._heard: list[Registration] = []
        self._blocked: asyncio.AbstractEventLoop | None = None

    def hear(self, exchange: Exchange, callback: Callback[Any]) -> bool:
        self._heard.append((exchange, callback))
        return True

    def __enter__(self) -> None:
        self._enter()
        self._heard = []

    def _end(self, error: BaseException | None) -> None:
        try:
            if error is None:
                self._wait()
        finally:
            self._leave()
        if error is None:
            raise_all(self._errors())

    async def __aenter__(self) -> None:
        self.__enter__()

    async def _aend(self, error: BaseException | None) -> None:
        try:
            if error is None:
                await self._await()
        finally:
            self._leave()
        if error is None:
            raise_all(self._errors())

    def _wait(self) -> None:
        blocked = running_loop()
        for registration, latch, left in self._awaited():
            if not _is_of(registration, blocked):
                latch.wait_in_thread(left)
        self._blocked = blocked

    async def _await(self) -> None:
        for _, latch, left in self._awaited():
            await latch.wait(left)
        self._blocked = None

    def _awaited(self) -> Iterator[tuple[Registration, Latch, float]]:
        """What to wait for, also of what is registered meanwhile; and for how many seconds."""
        deadline = monotonic() + self._timeout
        for exchange, callback in self._heard:
            host = exchange.host
            if isinstance(host, LoopDispatcher) and host.loop.is_closed():
                # A test's own loop has ended with it, while callbacks gave way.
                host.abandon()
            if _may_end(exchange, callback):
                left = max(0.0, deadline - monotonic())
                yield (exchange, callback), exchange.latch(callback), left

    def _errors(self) -> list[BaseException]:
        found: list[BaseException | None] = []
        for exchange, callback in self._heard:
            if callback.done():
                found.append(error_of(callback))
            elif _may_end(exchange, callback):
                found.append(TimeoutError(self._say_unfinished(exchange, callback)))
        return [error for error in found if error is not None]

    def _say_unfinished(self, exchange: Exchange, callback: Callback[Any]) -> str:
        state = f"callback {callback.describe()} was still {callback.state.value}"
        end = "the end of raise_callback_errors()"
        if _is_of((exchange, callback), self._blocked):
            return (
                f"{state} at {end}, on the event loop in which that is called: use 'async with'"
                " there, so that the loop can go on"
            )
        if not exchange.is_ended:
            end += (
                ", and its response has not ended: read a streamed response to its end, or close it"
            )
        return f"{state} {self._timeout:g} s after {end}"

    def _copy(self) -> "raise_callback_errors":
        return raise_callback_errors(timeout=self._timeout)


def _may_end(exchange: Exchange, callback: Callback[Any]) -> bool:
    """Whether it has not ended, and could before the block is left."""
    return not (callback.done() or callback._is_dormant or exchange in surrounding())


def _is_of(registration: Registration, loop: asyncio.AbstractEventLoop | None) -> bool:
    """Whether this loop must go on so that the callback can end."""
    return loop is not None and getattr(registration[0].host, "loop", None) is loop
