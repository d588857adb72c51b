"""Callbacks that somebody waits for: scopes and test clients.

They run where the caller is, without slots, and before it goes on. Promise 2,
once_or_accounted: they go through the same exchange and the same books.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from asgiref.sync import AsyncToSync, sync_to_async

from .callback import Callback
from .contexts import ThreadSensitivity
from .dispatch import Alone, Dispatcher, SingleUnit, Unit
from .exchange import Exchange
from .lanes import InlineLane, run_in_thread
from .runner import Runner


def _no_slot(callback: Callback[Any]) -> AbstractContextManager[None]:
    """An inline callback has none to lend."""
    return nullcontext()


class InlineDispatcher(Dispatcher):
    """Runs an exchange's callbacks when ``run`` or ``arun`` is called, and
    what is registered later still through the runner."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self.lending = _no_slot
        self._runner = runner
        self._sensitivity = ThreadSensitivity.here()
        self._is_over = False

    def dispatch(self, exchange: Exchange) -> None:
        if not self._is_over:
            return  # run() or arun() claims it
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            later: Dispatcher = self._runner.thread_dispatcher()
        else:
            later = self._runner.dispatcher(loop)
        exchange.host = later
        later.dispatch(exchange)

    def run(self, exchange: Exchange) -> None:
        """Run them in this thread, and coroutine functions in a loop whose
        thread-sensitive calls come back to this thread."""
        for unit in self._units(exchange):
            while (callback := unit.take()) is not None:
                if not callback.is_async:
                    run_in_thread(exchange, callback, inline=True)
                if not callback.done():
                    self._await(exchange, callback)

    async def arun(self, exchange: Exchange) -> None:
        """Await them on this loop, and plain functions in the thread where
        thread-sensitive calls went when the exchange was opened.

        Cancelling this does not cancel them (promise 4).
        """
        self._task = asyncio.get_running_loop().create_task(self._arun(exchange))
        await asyncio.shield(self._task)

    async def _arun(self, exchange: Exchange) -> None:
        lane = InlineLane(asyncio.get_running_loop(), self._sensitivity)
        self._sensitivity.apply()
        in_thread = sync_to_async(run_in_thread, thread_sensitive=True)
        for unit in self._units(exchange):
            while (callback := unit.take()) is not None:
                if not callback.is_async:
                    await in_thread(exchange, callback, inline=True)
                if not callback.done():
                    await self._start(lane, exchange, callback)

    def _units(self, exchange: Exchange) -> Iterator[Unit]:
        while claims := exchange.claim():
            for callback in claims:
                if callback is None:
                    yield Unit(self, exchange)
                else:
                    yield SingleUnit(self, exchange, callback)
        self._is_over = True
        # What another thread registered between the last look and this.
        self.dispatch(exchange)

    def _await(self, exchange: Exchange, callback: Callback[Any]) -> None:
        async def start() -> None:
            lane = InlineLane(asyncio.get_running_loop(), ThreadSensitivity())
            await self._start(lane, exchange, callback)

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            AsyncToSync(start, force_new_loop=True)()
        else:
            # No second loop can run in this thread.
            thread = threading.Thread(target=asyncio.run, args=(start(),))
            thread.start()
            thread.join()

    async def _start(self, lane: InlineLane, exchange: Exchange, callback: Callback[Any]) -> None:
        unit = Alone(exchange)
        lane.start(unit, callback, self._runner.timeout_of(callback))
        await unit.over.wait()
