"""Blocks that hold back what is registered inside."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .._core.exchange import Callback, Exchange, Options
from .._core.registration import Held, test_hook
from .._core.runner import InlineDispatcher, get_runner
from .blocks import Block, raise_all
from .execution import Execution, Registration


@dataclass(frozen=True, slots=True, eq=False)
class CapturedCallback:
    """One registration. Its ``repr`` shows no arguments."""

    name: str
    func: Callable[..., Any] = field(repr=False)
    args: tuple[Any, ...] = field(repr=False)
    kwargs: dict[str, Any] = field(repr=False)
    options: Options = field(repr=False)
    """What ``using(...)`` was given: ``when``, ``takes_outcome``, ``timeout``, ..."""
    callback: Callback[Any]
    """The handle that ``after_response`` has returned."""


class capture_after_response(Block):  # noqa: N801 -- used as a function, as exchange_scope
    """Holds back what is registered inside, and gives the list of it, which
    grows meanwhile.

    The callbacks stay PENDING. At the end of the block they are SKIPPED, or with
    ``execute=True`` they run, in the order of registration, and with what they
    register themselves: plain functions in this thread (with ``async with``
    where thread-sensitive calls go, as the ORM does), coroutine functions are
    awaited. ``when`` and ``takes_outcome`` are honoured, so a response must have
    ended by then; only in an exchange that goes on around the block those run
    that ask for no outcome. What they raise is raised, several errors as an
    ``ExceptionGroup``; ``RuntimeError`` for one that cannot be run.

    Those with ``on_commit``, too: they run at the end of the block whether the
    commit has come or not, as in a ``TestCase`` it never does. Those whose
    transaction was rolled back inside the block are SKIPPED.

    If the block itself raises, nothing is run. What the app's set-up registers
    is not held: the ``callbacks=`` of a wrapper, receivers of ``response_finished``.
    A runner that is closed inside the block (the lifespan of a test client)
    drops what is held: open the client outside of it.
    """

    def __init__(self, execute: bool = False) -> None:
        if not isinstance(execute, bool):
            raise TypeError(
                f"capture_after_response(execute=...) must be True or False, not {execute!r}. As a"
                " decorator it is written with parentheses."
            )
        super().__init__()
        self._execute = execute
        # A key that is compared, or an instrument, may register in its turn.
        self._lock = threading.RLock()
        self._is_open = False
        self._held: list[Registration] = []
        self._captured: list[CapturedCallback] = []

    def hold(self, exchange: Exchange, callback: Callback[Any]) -> bool:
        task = callback._task
        assert task is not None, callback
        captured = CapturedCallback(callback.name, *task, callback.options, callback)
        with self._lock:
            if not self._is_open:
                return False
            test_hook.register(Held(exchange), callback)
            self._held.append((exchange, callback))
            self._captured.append(captured)
            return True

    def __enter__(self) -> list[CapturedCallback]:
        self._enter()
        self._held, self._captured = [], []
        self._is_open = True
        return self._captured

    async def __aenter__(self) -> list[CapturedCallback]:
        return self.__enter__()

    def _end(self, error: BaseException | None) -> None:
        execution = self._execution(error)
        try:
            if (work := execution.work()).pending():
                InlineDispatcher(get_runner()).run_all(work)
        finally:
            self._close()
        raise_all(execution.errors())

    async def _aend(self, error: BaseException | None) -> None:
        execution = self._execution(error)
        try:
            if (work := execution.work()).pending():
                await InlineDispatcher(get_runner()).arun_all(work)
        finally:
            self._close()
        raise_all(execution.errors())

    def _execution(self, error: BaseException | None) -> Execution:
        return Execution(self._held if self._execute and error is None else ())

    def _close(self) -> None:
        with self._lock:
            self._is_open = False
        self._leave()
        for exchange, callback in self._held:
            exchange.skip_dormant(callback)

    def _copy(self) -> "capture_after_response":
        return capture_after_response(self._execute)


class suppress_after_response(Block):  # noqa: N801
    """Nothing that is registered inside is run: each callback is SKIPPED at once.

    What the app's set-up registers runs as ever: the ``callbacks=`` of a
    wrapper, receivers of ``response_finished``.
    """

    def hold(self, exchange: Exchange, callback: Callback[Any]) -> bool:
        test_hook.register(Held(exchange), callback)
        exchange.skip_dormant(callback)
        return True

    def __enter__(self) -> None:
        self._enter()

    async def __aenter__(self) -> None:
        self._enter()
