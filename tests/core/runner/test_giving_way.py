"""Promise 1, never_before: what is registered between the end of an exchange and the moment at
which control is back with the server goes with the others, and begins no earlier.

Another thread may register at any moment. Here one does at each line in between.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from async_after import Callback, CallbackState, Runner, after_response
from async_after._core.exchange import KEY, Exchange, response
from async_after._core.runner import Dispatcher
from async_after.asgi import AfterResponseMiddleware as ASGIWrapper
from async_after.wsgi import AfterResponseMiddleware as WSGIWrapper
from async_after.wsgi import dispatch as wsgi_dispatch

from ...wsgi.wsgi_client import environ_for
from ..conftest import DEADLINE, MakeRunner, free
from ..full import nothing

SOON = 0.01
"""Seconds in which a callback that is started too early has begun."""

KINDS: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "plain": ({}, int),
    "plain beside": ({"concurrent": True}, int),
    "coroutine": ({}, nothing),
    "coroutine beside": ({"concurrent": True}, nothing),
    "background": ({"lane": "background", "concurrent": True}, nothing),
    "keyed": ({"key": "one"}, int),
}


def _is_held(lock: Any) -> bool:
    return bool(lock._is_owned() if hasattr(lock, "_is_owned") else lock.locked())


class Between:
    """Registers at each line of ours, from the end of the exchange on, until ``back``."""

    def __init__(self, kind: str) -> None:
        self.options, self.function = KINDS[kind]
        self.exchange: Exchange | None = None
        self.callbacks: list[Callback[Any]] = []
        self.early: list[str] = []
        """Where those were registered that have begun before control was back."""
        self._lines: list[str] = []
        self._is_back = False
        self._is_registering = False

    def _register(self, frame: FrameType) -> None:
        """As another thread would, that has the GIL for long enough."""
        assert self.exchange is not None
        registrar = after_response.using(request={KEY: self.exchange}, **self.options)
        thread = threading.Thread(target=lambda: self.callbacks.append(registrar(self.function)))
        thread.start()
        thread.join(DEADLINE)
        self._lines.append(f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}")

    def _look(self) -> None:
        """Which of them have begun."""
        callbacks = self.callbacks[-len(self._lines) :] if self._lines else []
        deadline, waiting = (
            time.monotonic() + SOON,
            (CallbackState.PENDING, CallbackState.CANCELLED),
        )
        while time.monotonic() < deadline and not self.early:
            self.early = [
                line
                for line, callback in zip(self._lines, callbacks, strict=True)
                if callback.state not in waiting
            ]
            time.sleep(0.001)

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_globals.get("__name__", "").startswith("async_after."):
            return None
        if event == "line" and self._is_due():
            self._is_registering = True
            try:
                self._register(frame)
            finally:
                self._is_registering = False
        return self._trace

    def _is_due(self) -> bool:
        exchange = self.exchange
        if exchange is None or not exchange.is_ended or self._is_back or self._is_registering:
            return False
        host: Any = exchange.host
        locks = host.ledger.gate.lock, host.capacity.starts._lock
        # Who holds one of these lets nobody else in.
        return not any(_is_held(lock) for lock in locks)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Until control is back."""
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(before)
            self._look()
            self._is_back = True


@contextmanager
def endless() -> Iterator[None]:
    """Some milliseconds are given, which pass while others register."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher.give_way, "__defaults__", (DEADLINE,))
        for module in (response, wsgi_dispatch):
            for name in ("CONTROL_IS_BACK", "_CONTROL_IS_BACK"):
                if hasattr(module, name):
                    patch.setattr(module, name, DEADLINE)
        yield


async def _accept(message: Any) -> None: ...


async def _receive() -> Any:
    await asyncio.Event().wait()


# What becomes of the response.
ENDS = ("raises", "is cancelled", "returns early", "completes")


async def through_asgi(
    runner: Runner, between: Between, end: str, *, registers: bool, hold: bool = False
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if registers:
            between.callbacks.append(after_response(nothing))
        between.exchange = scope[KEY]
        if end == "raises":
            raise LookupError
        if end == "is cancelled":
            raise asyncio.CancelledError
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if end == "completes":
            await send({"type": "http.response.body"})

    wrapped = ASGIWrapper(app, runner=runner, hold=hold)
    try:
        with endless(), between.looking():
            await wrapped({"type": "http", "method": "GET", "path": "/"}, _receive, _accept)
    except (LookupError, asyncio.CancelledError):
        pass


async def through_wsgi(
    runner: Runner, between: Between, end: str, *, registers: bool, lane: Any = "threads"
) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        if registers:
            between.callbacks.append(after_response(nothing))
        between.exchange = environ[KEY]
        if end == "raises":
            raise LookupError
        start_response("200 OK", [])
        return iter([b""])

    wrapped = WSGIWrapper(app, runner=runner, lane=lane)
    try:
        with endless(), between.looking():
            body: Any = wrapped(environ_for(), lambda status, headers: _accept)
            if end == "completes":
                next(body)
            body.close()  # without: it is "returns early", a client that has gone
    except LookupError:
        pass


async def all_ended(runner: Runner) -> None:
    """Without waiting for what has been put off for the test."""
    async with asyncio.timeout(DEADLINE):
        while runner.capacity.ledger.exchanges():
            for exchange in runner.capacity.ledger.exchanges():
                if exchange in exchange.host._giving_way:
                    exchange.host._go_on(exchange)
            await asyncio.sleep(0.001)


WAYS: dict[str, Any] = {
    **{f"ASGI {end}": (through_asgi, {"end": end}) for end in ENDS},
    **{f"WSGI {end}": (through_wsgi, {"end": end}) for end in ENDS if end != "is cancelled"},
    "WSGI inline raises": (through_wsgi, {"end": "raises", "lane": "inline"}),
}


FAILING = [way for way in WAYS if way != "WSGI returns early" and "completes" not in way]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
async def test_registered_behind_the_end(make_runner: MakeRunner, way: str, kind: str) -> None:
    runner, between = make_runner(limit=1000), Between(kind)
    through, options = WAYS[way]
    await through(runner, between, registers=True, **options)
    assert between.early == []
    assert len(between.callbacks) > 1, "nothing was in between"
    await all_ended(runner)
    expected = {CallbackState.SUCCEEDED} | ({CallbackState.CANCELLED} if kind == "keyed" else set())
    assert {callback.state for callback in between.callbacks} == expected
    await free(runner)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", FAILING)
async def test_the_first_one_is_registered_behind_a_failure(
    make_runner: MakeRunner, way: str, kind: str
) -> None:
    """Nothing was registered when it ended. (Behind any other end it is just late.)"""
    runner, between = make_runner(limit=1000), Between(kind)
    through, options = WAYS[way]
    await through(runner, between, registers=False, **options)
    assert between.early == []
    assert len(between.callbacks) > 1, "nothing was in between"
    await all_ended(runner)
    await free(runner)
