"""Staying in the ASGI coroutine until the callbacks have ended.

Promise 10, drained, where a server does not speak lifespan: its graceful shutdown waits
for requests, and for nothing else.
"""

import asyncio
from typing import Any

from .._core.exchange import Exchange, current_callback, lending
from .._core.runner import LoopDispatcher, Runner
from .._core.runtime import monotonic


async def hold(
    runner: Runner, dispatcher: LoopDispatcher, exchange: Exchange, *, is_inner: bool
) -> None:
    """Stay until the callbacks have ended: the server's own graceful shutdown
    waits for this coroutine.

    A server that cancels it means to shut down, or has lost patience
    (daphne, 10 s after each response). It is let go at once while another
    one is held; the last one waits for the whole runner first.
    """
    # One inside another exchange, or a callback, is not cancelled by a server.
    inside = current_callback.get()
    is_inner = is_inner or (inside is not None and not inside.done())
    held = _Held(runner, dispatcher, is_inner)
    try:
        # A callback that has made this request needs no slot meanwhile.
        with lending():
            await exchange.idle_latch().wait(future=held)
    except asyncio.CancelledError:
        if not is_inner and dispatcher.held == 1:
            await _wait_for_all(runner)
        raise
    finally:
        held.let_go()


class _Held(asyncio.Future[None]):
    """What a held coroutine waits with. It hears at once of a cancellation:
    a server may cancel all coroutines and end without running them again
    (uvicorn ``--timeout-graceful-shutdown`` without lifespan)."""

    def __init__(self, runner: Runner, dispatcher: LoopDispatcher, is_inner: bool) -> None:
        super().__init__(loop=dispatcher.loop)
        self._runner = runner
        self._dispatcher = dispatcher
        self._is_inner = is_inner
        self._is_cancelled = False
        dispatcher.held += 1

    def cancel(self, msg: Any = None) -> bool:
        if not self._is_cancelled and not self._is_inner:
            self._is_cancelled = True
            self._dispatcher.cancelled += 1
            if self._dispatcher.cancelled == self._dispatcher.held:
                self._report(msg)
        return super().cancel(msg)

    def _report(self, msg: Any) -> None:
        """The server has cancelled the last one that was held."""
        capacity = self._runner.capacity
        if msg is not None:
            # uvicorn says that its patience is over, and ends.
            why = f"it is lost if the process ends before: the server says {msg!r}"
            capacity.reports.unsettled(why)
        else:
            # It is shutting down, and waits; or was it only impatient (daphne)?
            capacity.reports.waiting(
                "the server has cancelled the last request that is held: waiting up to"
                f" {capacity.wait_timeout} s, unless the process ends before,"
            )

    def let_go(self) -> None:
        self._dispatcher.held -= 1
        self._dispatcher.cancelled -= self._is_cancelled


async def _wait_for_all(runner: Runner) -> None:
    capacity = runner.capacity
    runner.shutdown.begin_waiting(capacity.wait_timeout)
    deadline = monotonic() + capacity.wait_timeout
    while (left := deadline - monotonic()) > 0:
        try:
            if await capacity.ledger.wait_idle(left):
                runner.shutdown.end_waiting()
                return
        except asyncio.CancelledError:
            # daphne cancels again each second.
            continue
    capacity.reports.unsettled(
        f"the server has cancelled its request {capacity.wait_timeout} s ago, and it is lost if the"
        " server is shutting down"
    )
