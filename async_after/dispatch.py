"""From an ended exchange to the lanes, in units that take one slot of the runner each.

Promise 6, in_order: the sequential callbacks of an exchange are one unit,
which starts the next one when the last has ended.
"""

import _thread
import asyncio
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from asgiref.sync import AsyncToSync

from . import hygiene
from .callback import Callback, CallbackState
from .calling import run_in_thread
from .exchange import Exchange
from .instrumentation import logger
from .lanes import InlineLane, LoopLane, OwnLoopLane
from .threads import WorkerPool
from .timers import Timers
from .waiting import Latch


class Slots(Protocol):
    """What dispatchers and units ask of the runner."""

    pool: WorkerPool
    timers: Timers
    is_closed: bool

    def admit(self, exchange: Exchange, first: bool) -> None: ...
    def registered(self, callback: Callback[Any]) -> None: ...
    def started(self, callback: Callback[Any]) -> None: ...
    def settled(self, callback: Callback[Any]) -> None: ...
    def idle(self, exchange: Exchange) -> None: ...
    def lending(self, callback: Callback[Any]) -> AbstractContextManager[None]: ...
    def submit(self, unit: "Unit") -> None: ...
    def release(self) -> None: ...
    def timeout_of(self, callback: Callback[Any]) -> float | None: ...


class Unit:
    """The chain of an exchange's sequential callbacks."""

    __slots__ = ("_dispatcher", "exchange")

    def __init__(self, dispatcher: "Dispatcher", exchange: Exchange) -> None:
        self._dispatcher = dispatcher
        self.exchange: Exchange = exchange

    def take(self) -> Callback[Any] | None:
        """The next callback to run, RUNNING; those not wanted are SKIPPED on the way."""
        exchange = self.exchange
        if self._dispatcher.is_closed():
            self.drop()
        while (callback := self._next()) is not None:
            if callback.options.when == "always" or callback.options.wants(exchange.sealed):
                self._dispatcher.slots.started(callback)
                return callback
            exchange.settle(callback, CallbackState.SKIPPED)
        return None

    def _next(self) -> Callback[Any] | None:
        return self.exchange.next()

    def go(self) -> bool:
        """Start the next callback; ``False`` when there is none left."""
        while (callback := self.take()) is not None:
            if self._start(callback):
                return True
        return False

    def _start(self, callback: Callback[Any]) -> bool:
        try:
            return self._dispatcher.start(self, callback)
        except Exception:  # no thread can be started, say
            logger.exception("callback %s cannot be started", callback.describe())
            self.exchange.settle(callback, CallbackState.DROPPED)
            return False

    def drop(self) -> None:
        """Give up what has not been started, and the claim to it."""
        while (callback := self._next()) is not None:
            self.exchange.settle(callback, CallbackState.DROPPED)

    def advance(self) -> None:
        """A callback of this unit has ended: go on, or give the slot back."""
        if not self.go():
            self._dispatcher.slots.release()

    def hand_on(self, following: Callback[Any] | None) -> None:
        """Start the one that was taken, wherever it belongs. If it is
        ``None`` there is none left: the slot is given back."""
        if following is None:
            self._dispatcher.slots.release()
        elif not self._start(following):
            self.advance()

    def timeout_of(self, callback: Callback[Any]) -> float | None:
        return self._dispatcher.slots.timeout_of(callback)


class SingleUnit(Unit):
    """One concurrent callback."""

    __slots__ = ("_callback",)

    def __init__(
        self, dispatcher: "Dispatcher", exchange: Exchange, callback: Callback[Any]
    ) -> None:
        super().__init__(dispatcher, exchange)
        self._callback: Callback[Any] | None = callback

    def _next(self) -> Callback[Any] | None:
        callback, self._callback = self._callback, None
        if callback is None or not self.exchange.begin(callback):
            return None
        return callback


class Dispatcher:
    """Takes the callbacks of ended exchanges to the lanes (``exchange.Host``)."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.admit: Callable[[Exchange, bool], None] = slots.admit
        self.registered: Callable[[Callback[Any]], None] = slots.registered
        self.settled: Callable[[Callback[Any]], None] = slots.settled
        self.idle: Callable[[Exchange], None] = slots.idle
        self.lending: Callable[[Callback[Any]], AbstractContextManager[None]] = slots.lending

    def is_closed(self) -> bool:
        """Whether callbacks are not started any more."""
        return self.slots.is_closed

    def dispatch(self, exchange: Exchange) -> None:
        for callback in exchange.claim():
            if callback is None:
                self.slots.submit(Unit(self, exchange))
            else:
                self.slots.submit(SingleUnit(self, exchange, callback))

    def start(self, unit: Unit, callback: Callback[Any]) -> bool:
        """Start a RUNNING callback in its lane; ``False`` if that cannot be
        done any more, and it is settled."""
        if callback.is_async:
            return self.start_async(unit, callback)
        self.slots.pool.submit(functools.partial(self._work, unit, callback))
        return True

    def start_async(self, unit: Unit, callback: Callback[Any]) -> bool:
        raise NotImplementedError

    def _work(self, unit: Unit, callback: Callback[Any]) -> None:
        """In a worker: run this callback and the plain functions right behind it."""
        while True:
            if not self._run(unit, callback):
                self._go_on_behind(unit, callback)
                return
            following = unit.take()
            if following is None or following.is_async:
                unit.hand_on(following)
                return
            callback = following

    def _go_on_behind(self, unit: Unit, callback: Callback[Any]) -> None:
        """The call has returned, and that was not the end of its callback."""
        if callback._returned is not None:
            if self.start_async(unit, callback):
                return
        elif callback.state is CallbackState.TIMED_OUT:
            return  # those behind it went on at that moment
        unit.advance()

    def _run(self, unit: Unit, callback: Callback[Any]) -> bool:
        timeout = self.slots.timeout_of(callback)
        if timeout is None:
            return run_in_thread(unit.exchange, callback)
        worker, turn = self.slots.pool.current_turn()

        def give_up() -> None:
            # A thread cannot be killed. The callback is accounted for, the
            # others go on, and another worker takes this one's place.
            if unit.exchange.settle(callback, CallbackState.TIMED_OUT):
                self.slots.pool.overdue(worker, turn)
                unit.advance()

        cancel = self.slots.timers.call_later(timeout, give_up)
        try:
            return run_in_thread(unit.exchange, callback)
        finally:
            cancel()


class LoopDispatcher(Dispatcher):
    """For the exchanges of one event loop: its coroutine functions run there."""

    def __init__(self, slots: Slots, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(slots)
        self.loop = loop
        self.lane: LoopLane = LoopLane(loop, slots.pool)
        self.held = 0
        """ASGI coroutines that stay until their callbacks have ended."""

    def dispatch_soon(self, exchange: Exchange) -> None:
        """Dispatch it when the loop has done what is due now. In its thread only."""
        try:
            self.loop.call_soon(self.dispatch, exchange)
        except RuntimeError:  # the loop is closed: it is accounted for at once
            self.dispatch(exchange)

    def start_async(self, unit: Unit, callback: Callback[Any]) -> bool:
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self.loop:
            self.lane.start(unit, callback)
            return True
        try:
            self.lane.start_soon(unit, callback)
        except RuntimeError:  # the loop is closed
            unit.exchange.settle(callback, CallbackState.DROPPED)
            return False
        return True


class ThreadDispatcher(Dispatcher):
    """For exchanges without an event loop: a coroutine function gets one of
    its own, whose thread-sensitive calls come to the worker that waits for it."""

    def start_async(self, unit: Unit, callback: Callback[Any]) -> bool:
        def work() -> None:
            hygiene.close_old_connections()
            try:
                AsyncToSync(run, force_new_loop=True)()
            except KeyboardInterrupt:
                _thread.interrupt_main()
            finally:
                hygiene.close_old_connections()
                unit.advance()

        async def run() -> None:
            await run_alone(OwnLoopLane(asyncio.get_running_loop()), unit, callback)

        self.slots.pool.submit(work)
        return True


class Alone:
    """One callback of a unit, for a lane that is made for it."""

    def __init__(self, unit: Unit) -> None:
        self.exchange: Exchange = unit.exchange
        self.over: Latch = Latch()
        self._unit = unit

    def take(self) -> None:
        return None

    def drop(self) -> None:
        pass

    def hand_on(self, following: Callback[Any] | None) -> None:
        self.over.open()

    def timeout_of(self, callback: Callback[Any]) -> float | None:
        return self._unit.timeout_of(callback)


async def run_alone(lane: InlineLane, unit: Unit, callback: Callback[Any]) -> None:
    """Run this callback of the unit, and only this one."""
    alone = Alone(unit)
    lane.start(alone, callback)
    await alone.over.wait()
