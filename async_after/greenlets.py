"""gevent: callbacks in its greenlets, and the background loop in a native thread.

An event loop in a greenlet would answer ``asyncio.get_running_loop()`` in every
greenlet of its thread, and Django refuse the ORM in all views. So the loop has
a thread that gevent has not patched, and each callback's end is handed back to
the hub that started it: books, locks and worker greenlets belong to the hub.

Everything here is reached only where gevent has patched ``threading``.
"""

import asyncio
import functools
import sys
from _thread import LockType
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from .callback import Callback, CallbackState, Lane
from .exchange import Exchange
from .sessions import SessionExecutor
from .steps import UnitLike


def is_patched() -> bool:
    """Whether gevent has made greenlets of this process's threads."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _original(module: str, name: str) -> Any:
    """What gevent has patched away."""
    monkey: Any = sys.modules["gevent.monkey"]
    return monkey.get_original(module, name)


def start_native_thread(function: Callable[[], object]) -> None:
    _original("_thread", "start_new_thread")(function, ())


def native_lock() -> LockType:
    lock: LockType = _original("_thread", "allocate_lock")()
    return lock


class Hub:
    """The hub of the thread that makes this: others call functions there."""

    def __init__(self) -> None:
        self._gevent: Any = sys.modules["gevent"]
        self._hub: Any = self._gevent.get_hub()
        self._calls: deque[Callable[[], object]] = deque()

    def is_here(self) -> bool:
        return self._gevent.get_hub() is self._hub

    def call(self, function: Callable[[], object]) -> None:
        """Call it in a greenlet of the hub, in the order of these calls. Any thread may."""
        self._calls.append(function)
        self._hub.loop.run_callback_threadsafe(self._gevent.spawn, self._call_next)

    def _call_next(self) -> None:
        self._calls.popleft()()


class NativeLoop(asyncio.SelectorEventLoop):
    """An event loop that needs no greenlet, made in its own native thread.

    gevent replaces the selectors, and the threads of executors: those would
    be greenlets of this very thread, which never gets round to them.
    """

    def __init__(self) -> None:
        name = "EpollSelector" if sys.platform == "linux" else "SelectSelector"
        super().__init__(_original("selectors", name)())

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Name resolution, ``asyncio.to_thread``: a native thread for each call."""
        if executor is not None:
            return super().run_in_executor(executor, func, *args)
        future = self.create_future()

        def run() -> None:
            try:
                settle = functools.partial(future.set_result, func(*args))
            except BaseException as error:
                settle = functools.partial(future.set_exception, error)
            try:
                self.call_soon_threadsafe(lambda: None if future.done() else settle())
            except RuntimeError:  # it is closed, and nobody waits any more
                pass

        start_native_thread(run)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""


class RefusingExecutor(SessionExecutor):
    """Behind the thread-sensitive calls of async callbacks: Django's async ORM."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        raise RuntimeError(
            "under gevent, an async callback cannot make thread-sensitive calls, such as those of"
            " Django's async ORM: its event loop has a native thread, and the database connections"
            " belong to greenlets. Use the synchronous ORM in a plain def callback, which runs in"
            " a greenlet."
        )


class Remote:
    """A unit, seen from a native thread: what it is told is told to the unit in
    the hub, at the end."""

    def __init__(self, unit: UnitLike, hub: Hub) -> None:
        self._unit = unit
        self._hub = hub
        self._told: list[Callable[[], object]] = []
        self.exchange: Any = _RemoteExchange(unit.exchange, self._told)

    def take(self, lanes: Sequence[Lane] | None = None) -> Callback[Any] | None:
        # The next one is started from the hub.
        return None

    def drop(self, reason: str) -> None:
        self._told.append(functools.partial(self._unit.drop, reason))

    def advance(self) -> None:
        def advance() -> None:
            self.tell()
            self._unit.advance()

        self._hub.call(advance)

    def tell(self) -> None:
        """In the hub: what has become of the callback."""
        told = [*self._told]
        self._told.clear()
        for each in told:
            each()

    def timeout_of(self, callback: Callback[Any]) -> float | None:
        return self._unit.timeout_of(callback)


class _RemoteExchange:
    """What the steps of a callback ask of its exchange."""

    def __init__(self, exchange: Exchange, told: list[Callable[[], object]]) -> None:
        self.sealed = exchange.sealed
        self.stop = exchange.stop
        self._exchange = exchange
        self._told = told

    def settle(
        self,
        callback: Callback[Any],
        state: CallbackState,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> bool:
        self._told.append(
            functools.partial(self._exchange.settle, callback, state, result, exception)
        )
        return True

    def drop(self, callback: Callback[Any], reason: str) -> bool:
        self._told.append(functools.partial(self._exchange.drop, callback, reason))
        return True
