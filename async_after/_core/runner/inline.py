"""Callbacks that somebody waits for: of scopes and test clients, and those a test has held.

They run where the caller is, without slots, and before it goes on. Promise 2,
once_or_accounted: they go through the same exchange and the same books.
"""

import asyncio
import functools
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import Context
from typing import Any

from asgiref.sync import AsyncToSync, sync_to_async

from ..capacity import Chain, run_alone
from ..exchange import Callback, CallbackState, Exchange, current_exchange
from ..lanes import CANCELLED_TASK, InlineLane, ThreadSensitivity, run_in_thread
from ..runtime import LoopTimer, gevent, process, running_loop
from .dispatch import Dispatcher
from .runner import Runner
from .work import Work, work_of


def _never_full(name: str) -> None:
    """An inline callback waits for no slot."""


async def _always_room(exchange: Exchange) -> None:
    """The same."""


def _end_of(chain: Chain, callback: Callback[Any] | None, error: BaseException) -> None:
    """Ctrl-C, or something of ours: the one that was run has an end."""
    try:
        if callback is not None:
            chain.exchange.settle(callback, CallbackState.FAILED, exception=error)
    finally:
        del callback, error  # see invoke.call


def _no_slot(callback: Callback[Any]) -> AbstractContextManager[None]:
    """An inline callback has none to lend."""
    return nullcontext()


def _run_for_loop(exchange: Exchange, callback: Callback[Any]) -> None:
    """In a thread, for a loop that waits."""
    forks = process.forks
    run_in_thread(exchange, callback, inline=True)
    if process.forks != forks and process.is_childs():
        process.end_child(None)  # who waits is in the parent


class InlineDispatcher(Dispatcher):
    """Runs an exchange's callbacks when ``run`` or ``arun`` is called, and
    what is registered later still through the runner."""

    counts_waiting = False

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner.capacity, self._later)
        self.lending: Callable[[Callback[Any]], AbstractContextManager[None]] = _no_slot
        self.refuse_overflow: Callable[[str], None] = _never_full
        self.wait_for_room: Callable[[Exchange], Awaitable[None]] = _always_room
        self._runner = runner
        self._sensitivity = ThreadSensitivity.here()
        self._is_over = False
        self._ended_in_loop = False
        self._parent = current_exchange.get()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._went_on = False

    def queued(self, exchange: Exchange) -> None:
        """Whoever runs those before it will find it."""

    def dispatch(self, exchange: Exchange) -> None:
        if not self._is_over:
            # run() or arun() will claim it; arun() at once.
            if self._loop is not None:
                with suppress(RuntimeError):  # it is closed: whoever waited has been told
                    self._loop.call_soon_threadsafe(self._new.set)
            return
        later = exchange.host = self._later()
        try:
            later.dispatch(exchange)
        except Exception:
            self._dispatch_again(exchange)

    def resume(self, exchange: Exchange) -> None:
        # A commit runs its hooks where it is, and a test's transaction is seen there alone.
        if self._is_over and running_loop() is None:
            self._is_over = False
            self.run(exchange)
        else:
            self.dispatch(exchange)

    def _later(self) -> Dispatcher:
        """Who runs what is late."""
        if self._ended_in_loop and running_loop() is not None:
            return self._runner.dispatcher(asyncio.get_running_loop())
        # That of async_to_sync, in which an async view runs under Django's Client,
        # ends at once.
        return self._runner.thread_dispatcher()

    def run(self, exchange: Exchange) -> None:
        """Run its callbacks as ``run_all`` does."""
        if process.is_inside():
            self.finish(exchange)  # through the runner
            return
        exchange.parent = self._parent  # for the deadlock guard
        try:
            self.run_all(work_of(self, exchange))
        except BaseException:  # Ctrl-C, say: nobody runs what was claimed
            exchange.reclaim()
            raise
        finally:
            self.finish(exchange)

    def run_all(self, work: Work) -> None:
        """Run it in this thread, and coroutine functions in a loop whose
        thread-sensitive calls come back to this thread."""
        # Whether plain functions come back to this thread from a loop of our own.
        comes_back = running_loop() is None and not gevent.is_patched()
        while pending := work.pending():
            if any(c.options.concurrent or (c.is_async and comes_back) for c in pending):
                # Side by side: one may wait for another, which it may register itself.
                self._in_own_loop(self._arun_all, work, ThreadSensitivity())
            elif chains := work.claim():
                self._run_chains(work, chains)
            else:
                time.sleep(work.pause)

    def _run_chains(self, work: Work, chains: Sequence[Chain]) -> None:
        for chain in chains:
            self._went_on = False
            callback: Callback[Any] | None = None
            try:
                for callback in chain:
                    if not callback.is_async:
                        run_in_thread(chain.exchange, callback, inline=True)
                    if not callback.done():
                        self._in_own_loop(self._await, work, chain, callback)
                    callback = None  # see invoke.call
                    if self._went_on:
                        break
            except BaseException as error:
                _end_of(chain, callback, error)
                chain.let_go()
                raise

    async def _await(self, work: Work, chain: Chain, callback: Callback[Any]) -> None:
        """In a loop of its own: with those that are concurrent beside it, as it may wait for
        one that it has registered; and where one of them runs on, with those behind it in
        the chain, as that may wait for them."""
        lane, sensitivity = InlineLane(asyncio.get_running_loop()), ThreadSensitivity()

        async def first() -> None:
            await run_alone(lane, chain, callback)
            if len(self._running) > 1 or any(c.options.concurrent for c in work.pending()):
                self._went_on = True
                await self._arun_chain(chain, sensitivity)

        await self._arun_all(work, sensitivity, first())

    async def arun(self, exchange: Exchange, sensitivity: ThreadSensitivity | None = None) -> None:
        """Run its callbacks as ``arun_all`` does; ``sensitivity``: another than
        when the exchange was opened."""
        await self._see_through(self._arun(exchange, sensitivity or self._sensitivity))

    async def arun_all(self, work: Work) -> None:
        """Run it on this loop, and plain functions in the thread where thread-sensitive
        calls went when this dispatcher was made.

        Cancelling this does not cancel them (promise 4).
        """
        await self._see_through(self._arun_all(work, self._sensitivity))

    async def _see_through(self, running: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(running)
        await asyncio.shield(self._task)

    async def _arun(self, exchange: Exchange, sensitivity: ThreadSensitivity) -> None:
        exchange.parent = self._parent
        try:
            await self._arun_all(work_of(self, exchange), sensitivity)
        except asyncio.CancelledError:
            # The loop is at its end (this is a task of its own).
            for callback in exchange.pending():
                exchange.drop(callback, CANCELLED_TASK, if_pending=True)
            raise
        finally:
            self.finish(exchange)

    async def _arun_all(
        self, work: Work, sensitivity: ThreadSensitivity, *first: Coroutine[Any, Any, None]
    ) -> None:
        """``first``: what runs already. With it, only what can start before its end."""
        sensitivity.apply()
        running = self._running = {asyncio.create_task(each) for each in first}
        chains: dict[object, Chain] = {}
        while True:
            # Before the loop, which tells other threads that there is one, and before the look.
            self._new = asyncio.Event()
            self._loop = asyncio.get_running_loop()
            for chain in work.claim():
                started = asyncio.create_task(self._arun_chain(chain, sensitivity))
                running.add(started)
                chains[started] = chain
            if not running and (first or not work.pause or not work.pending()):
                break
            coming = asyncio.create_task(self._new.wait())
            timer = LoopTimer(self._loop, work.pause, self._new.set) if work.pause else None
            done, _ = await asyncio.wait({*running, coming}, return_when=asyncio.FIRST_COMPLETED)
            coming.cancel()
            if timer is not None:
                timer.cancel()
            running -= done
            for task in done - {coming}:
                try:
                    task.result()
                except Exception:
                    if task in chains:
                        chains[task].let_go()
                    if running:  # the loop may end with this, and they with it
                        await asyncio.wait(running)
                    raise
        self._loop = None

    async def _arun_chain(self, chain: Chain, sensitivity: ThreadSensitivity) -> None:
        lane = InlineLane(asyncio.get_running_loop(), sensitivity)
        in_thread = sync_to_async(_run_for_loop, thread_sensitive=True)
        callback: Callback[Any] | None = None
        try:
            for callback in chain:
                if not callback.is_async and gevent.is_native():
                    run_in_thread(chain.exchange, callback, inline=True)
                elif not callback.is_async:
                    try:
                        await in_thread(chain.exchange, callback)
                    except RuntimeError:
                        if callback.done():
                            raise
                        # It has not run. The thread in which the exchange was opened was that
                        # of a sync middleware outside, and is gone (AsyncClient).
                        ThreadSensitivity().apply()
                        await in_thread(chain.exchange, callback)
                if not callback.done():
                    await run_alone(lane, chain, callback)
        except (Exception, KeyboardInterrupt) as error:
            _end_of(chain, callback, error)
            raise

    def finish(self, exchange: Exchange, *, give_way: float = 0.0) -> None:
        """What comes now is late, and the runner's."""
        self._ended_in_loop = running_loop() is not None
        self._is_over = True
        exchange.parent = None
        if not exchange.pending() and not process.is_inside():
            return
        # What another thread registered between the last look and this.
        if give_way:
            later = exchange.host = self._later()
            later.give_way(exchange, give_way)
        else:
            self.dispatch(exchange)

    def _in_own_loop(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Run it in a loop whose thread-sensitive calls come back to this thread."""
        if gevent.is_patched():
            gevent.run_in_native_thread(functools.partial(function, *args))
            return
        if running_loop() is None:
            AsyncToSync(function, force_new_loop=True)(*args)
        else:
            # No second loop can run in this thread.
            thread = threading.Thread(target=lambda: asyncio.run(function(*args)))
            Context().run(thread.start)
            thread.join()
