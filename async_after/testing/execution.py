"""Runs callbacks that a test has held back, where the test is.

They start in the order of their registration, and those that they register
are held back and run, too: also side by side, where they are concurrent, as
one may wait for another.
"""

import asyncio
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

from .._core.capacity import SingleChain
from .._core.delivery import Delivery, Wait
from .._core.exchange import Callback, CallbackState, Exchange, current_exchange
from .._core.lanes import ThreadSensitivity
from .._core.runner import DELIVERY_TIMEOUT, Dispatcher, InlineDispatcher, Runner, get_runner

END_TIMEOUT = 5.0
"""Seconds until the responses must have ended. A client has its response a moment before
its server, in another thread, has ended it."""
_PAUSE = 0.005
"""Seconds between two looks at what no event tells."""

Registration = tuple[Exchange, Callback[Any]]


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
    note = f"In callback {callback.describe()}."
    if error is not None and note not in getattr(error, "__notes__", ()):
        error.add_note(note)
    return error


_BAD = (CallbackState.FAILED, CallbackState.TIMED_OUT, CallbackState.DROPPED)


class Execution:
    """Runs what is, and what comes, in a list of held registrations."""

    def __init__(self, held: Sequence[Registration]) -> None:
        self._held = held
        self._next = 0
        self._looked = 0
        self._deadline = time.monotonic() + END_TIMEOUT
        self._surrounding = surrounding()
        self._refused: dict[Callback[Any], RuntimeError] = {}

    def run(self) -> None:
        """In this thread; coroutine functions in a loop whose thread-sensitive
        calls come back to it."""
        for exchange, callback in self._coming():
            if callback.is_async or self._has_concurrent():
                # Side by side: this one may wait for a concurrent one behind it.
                self._next -= 1
                place = _Place(_runner_of(exchange))
                place.run_in_own_loop(self._arun, ThreadSensitivity())
                continue
            for pause in self._pauses(exchange, callback):
                time.sleep(pause)
            if not callback.done():
                _Place(_runner_of(exchange)).run_one(exchange, callback)

    def _has_concurrent(self) -> bool:
        """Among those that have come since it was asked."""
        new, self._looked = self._held[self._looked :], len(self._held)
        return any(callback.options.concurrent for _, callback in new)

    async def arun(self) -> None:
        """On this loop, and plain functions where its thread-sensitive calls go.

        Cancelling this does not cancel those that have started.
        """
        running = self._arun(ThreadSensitivity.here())
        self._task = asyncio.get_running_loop().create_task(running)
        await asyncio.shield(self._task)

    async def _arun(self, sensitivity: ThreadSensitivity) -> None:
        sensitivity.apply()
        turn = asyncio.Lock()
        running: set[asyncio.Task[None]] = set()
        while True:
            for exchange, callback in self._coming():
                one = self._arun_one(exchange, callback, turn, sensitivity)
                running.add(asyncio.create_task(one))
            if not running:
                return
            # One that runs may register another and wait for it.
            done, running = await asyncio.wait(
                running, timeout=_PAUSE, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()

    async def _arun_one(
        self,
        exchange: Exchange,
        callback: Callback[Any],
        turn: asyncio.Lock,
        sensitivity: ThreadSensitivity,
    ) -> None:
        is_in_line = not callback.options.concurrent
        if is_in_line:
            await turn.acquire()
        try:
            for pause in self._pauses(exchange, callback):
                await asyncio.sleep(pause)
            if not callback.done():
                await _Place(_runner_of(exchange)).arun_one(exchange, callback, sensitivity)
        finally:
            if is_in_line:
                turn.release()

    def errors(self) -> list[BaseException]:
        """What went wrong, in the order of registration."""
        found = [
            self._refused.get(callback) or error_of(callback)
            for _, callback in self._held[: self._next]
        ]
        return [error for error in found if error is not None]

    def _coming(self) -> Iterator[Registration]:
        """Those that nobody has been given yet, also while this goes on."""
        while self._next < len(self._held):
            registration = self._held[self._next]
            self._next += 1
            yield registration

    def _pauses(self, exchange: Exchange, callback: Callback[Any]) -> Iterator[float]:
        """Seconds to wait, again and again, until it can run or has ended."""
        while not exchange.is_ended and exchange not in self._surrounding:
            if callback.done():
                return
            if time.monotonic() > self._deadline:
                self._refuse(
                    exchange,
                    callback,
                    f"did not end within {END_TIMEOUT:g} s. Inside the block, read a streamed"
                    " response to its end, or close it. Where its server runs on the event loop of"
                    " the test, use 'async with'",
                )
                return
            yield _PAUSE
        if not exchange.is_ended and callback.options.asks:
            self._refuse(
                exchange,
                callback,
                "has not ended, so there is no outcome to ask for. Let it end inside the"
                " block: with capture_after_response(execute=True), exchange_scope(): ...",
            )
        elif callback.options.when == "acknowledged" and not callback.done():
            yield from self._delivery(exchange, callback)

    def _delivery(self, exchange: Exchange, callback: Callback[Any]) -> Iterator[float]:
        outcome = exchange.sealed
        timeout = callback.options.delivery_timeout or DELIVERY_TIMEOUT
        wait = Wait(outcome.connection, outcome.delivery, Delivery.ACKNOWLEDGED, timeout)
        while (pause := wait.look()) is not None:
            yield pause
        if wait.is_reached:
            callback._outcome = dataclasses.replace(outcome, delivery=wait.reached)
        else:
            exchange.skip_dormant(callback)

    def _refuse(self, exchange: Exchange, callback: Callback[Any], reason: str) -> None:
        self._refused[callback] = RuntimeError(
            f"capture_after_response(execute=True) cannot run callback {callback.name}:"
            f" {exchange.label()} {reason}."
        )
        exchange.skip_dormant(callback)


class _Place(InlineDispatcher):
    """Runs single callbacks, of whichever exchange, where it is told to."""

    def run_one(self, exchange: Exchange, callback: Callback[Any]) -> None:
        self._run_chains([SingleChain(self, exchange, callback)])

    async def arun_one(
        self, exchange: Exchange, callback: Callback[Any], sensitivity: ThreadSensitivity
    ) -> None:
        await self._arun_chain(SingleChain(self, exchange, callback), sensitivity)

    def run_in_own_loop(self, *function: Any) -> None:
        self._in_own_loop(*function)


def _runner_of(exchange: Exchange) -> Runner:
    """Whose instruments hear of its callbacks."""
    host = exchange.host
    runner = host.capacity.owner if isinstance(host, Dispatcher) else get_runner()
    assert isinstance(runner, Runner)
    return runner
