"""RecursionError at any depth: where the stack ends in the middle of something of ours.

Each is done with 0, 1, 2 ... frames left. It raises RecursionError and nothing has happened, or
it is done; no callback is counted that nobody has a handle of, none is left, no place is lost.
"""

import asyncio
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from async_after import Callback, Runner, after_response, exchange_scope
from async_after._core.exchange import Exchange, current_exchange
from async_after._core.registration import exchange_scope as scope_module
from async_after.testing import capture_after_response
from async_after.wsgi import AfterResponseMiddleware as WsgiMiddleware

from .conftest import DEADLINE, MakeRunner, entered, finish, loop_exchange, thread_exchange
from .ways import check_at_rest, unsettled

Work = Callable[[], Any]
ENOUGH = 140
"""Frames: with so many left all works."""


async def nothing() -> None: ...


def depth() -> int:
    frame, found = sys._getframe(1), 0
    while frame.f_back is not None:
        frame, found = frame.f_back, found + 1
    return found


def _deep(frames: int, work: Work) -> Any:
    return work() if frames <= 0 else _deep(frames - 1, work)


@functools.cache
def frames_from(depth: int) -> int:
    """How many there are from here. (Before Python 3.12 calls in C take some, too.)"""
    least, most = 0, sys.getrecursionlimit()
    while most - least > 1:
        middle = (least + most) // 2
        try:
            _deep(middle, int)
        except RecursionError:
            most = middle
        else:
            least = middle
    return least


def with_frames_left(left: int, work: Work) -> Any:
    """Do it where the stack has so many frames left; the RecursionError, if it raises one."""
    frames = frames_from(depth()) - left
    try:
        return _deep(frames, work)
    except RecursionError as error:
        return error


def lefts(step: int = 1) -> Iterator[int]:
    """0 and more: closely where something may be cut short, and some beyond."""
    yield from range(0, 40, step)
    yield from range(40, ENOUGH, 7 * step)
    yield ENOUGH


def at_rest(runner: Runner, callbacks: list[Callback[Any]]) -> None:
    """All have ended, all places are given back, and none is counted that has no handle."""
    check_at_rest(runner)
    assert [callback for callback in callbacks if not callback.done()] == []
    assert runner.statistics().registered == len(callbacks)


OPTIONS: dict[str, dict[str, Any]] = {
    "plainly": {},
    "by a key": {"key": 1},
    "concurrent": {"concurrent": True},
    "concurrent, by a key": {"concurrent": True, "key": 1},
    "with a timeout": {"timeout": DEADLINE},
    "with a predicate": {"when": lambda outcome: True},
    "in the background": {"lane": "background"},
}


class Ear:
    """An instrument: somebody hears of it."""

    def registered(self, callback: Callback[Any]) -> None: ...
    def started(self, callback: Callback[Any]) -> None: ...
    def ended(self, callback: Callback[Any]) -> None: ...


@pytest.mark.parametrize("when", ["open", "late", "open, and heard of"])
@pytest.mark.parametrize("kind", ["loop", "threads"])
@pytest.mark.parametrize("how", OPTIONS)
async def test_registering(make_runner: MakeRunner, how: str, kind: str, when: str) -> None:
    instruments = [Ear()] if "heard" in when else []
    runner = make_runner(limit=2, max_threads=2, instruments=instruments)
    function = nothing if kind == "loop" or "background" in how else int
    registrar = after_response.using(**OPTIONS[how])
    callbacks: list[Callback[Any]] = []
    for left in lefts(step=3):
        exchange = (loop_exchange if kind == "loop" else thread_exchange)(runner)
        with entered(exchange):
            callbacks.append(after_response.using(key=1)(function))
        if when == "late":
            finish(exchange)
        with entered(exchange):
            found = with_frames_left(left, lambda: registrar(function))
        if when != "late":
            finish(exchange)
        if isinstance(found, Callback):
            callbacks.append(found)
        else:
            assert left < ENOUGH
    async with asyncio.timeout(DEADLINE):
        await runner.drain()
        while unsettled(runner):
            await asyncio.sleep(0.001)
    at_rest(runner, callbacks)


@pytest.mark.parametrize("when", ["open", "waiting", "running"])
@pytest.mark.parametrize("concurrent", [False, True])
@pytest.mark.parametrize("function", [int, nothing], ids=["plain", "coroutine"])
async def test_cancelling(
    make_runner: MakeRunner, function: Any, concurrent: bool, when: str
) -> None:
    """What it has answered is so."""
    runner = make_runner(limit=1, max_threads=1)
    callbacks: list[Callback[Any]] = []
    go_on = asyncio.Event()
    answers: list[tuple[int, Callback[Any]]] = []
    for left in lefts(step=3):
        exchange = loop_exchange(runner)
        with entered(exchange):
            first = after_response(go_on.wait)
            second = after_response.using(concurrent=concurrent)(function)
        callbacks += [first, second]
        if when != "open":
            finish(exchange)
            await asyncio.sleep(0)
        answers.append((left, first if when == "running" else second))
        answer = with_frames_left(left, answers[-1][1].cancel)
        if isinstance(answer, RecursionError):
            assert left < ENOUGH
            answers.pop()
        else:
            assert answer is (answers[-1][1].state.name == "CANCELLED")
        if when == "open":
            finish(exchange)
    go_on.set()
    await runner.drain(DEADLINE)
    async with asyncio.timeout(DEADLINE):
        while unsettled(runner):
            await asyncio.sleep(0.001)
    at_rest(runner, callbacks)
    assert answers[-1][0] == ENOUGH


REGISTERED = pytest.mark.parametrize(
    "functions", [(int,), (nothing,), (int, nothing, int)], ids=["plain", "coroutine", "both"]
)


@contextmanager
def scopes_of(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scopes, and captures, are of this runner."""
    modules = sys.modules[scope_module.__module__], sys.modules[capture_after_response.__module__]
    with monkeypatch.context() as patch:
        for module in modules:
            patch.setattr(module, "get_runner", lambda: runner)
        yield


@pytest.mark.parametrize("concurrent", [False, True])
@REGISTERED
@pytest.mark.parametrize("block", ["scope", "capture"])
def test_leaving_a_block(
    make_runner: MakeRunner,
    monkeypatch: pytest.MonkeyPatch,
    block: str,
    functions: Any,
    concurrent: bool,
) -> None:
    """It is entered only where it can be left."""
    runner = make_runner(limit=2, max_threads=2)
    callbacks: list[Callback[Any]] = []
    registrar = after_response.using(concurrent=concurrent)

    def in_block() -> None:
        if block == "scope":
            with exchange_scope():
                callbacks.extend([registrar(function) for function in functions])
            return
        with capture_after_response(execute=True), entered(exchange):
            callbacks.extend([registrar(function) for function in functions])
            finish(exchange)

    with scopes_of(runner, monkeypatch):
        for left in lefts(step=3):
            exchange = thread_exchange(runner)
            found = with_frames_left(left, in_block)
            assert (found is None) or left < ENOUGH
            exchange.end()
        asyncio.run(runner.drain(DEADLINE))
    at_rest(runner, callbacks)
    assert {callback.state.name for callback in callbacks} == {"SUCCEEDED"}


@REGISTERED
@pytest.mark.parametrize("lane", ["threads", "inline"])
def test_closing_a_wsgi_response(make_runner: MakeRunner, lane: Any, functions: Any) -> None:
    """``close()`` can be called wherever the app could be, and always ends the exchange."""
    runner = make_runner(limit=2, max_threads=2)
    callbacks: list[Callback[Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        callbacks.extend([after_response(function) for function in functions])
        start_response("200 OK", [])
        return [b"body"]

    served: Any = WsgiMiddleware(app, runner=runner, lane=lane)
    for left in lefts():
        body = served({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *args: print)
        found = with_frames_left(left, body.close)
        assert (found is None) or left < ENOUGH
        del body
    asyncio.run(runner.drain(DEADLINE))
    at_rest(runner, callbacks)
    assert {callback.state.name for callback in callbacks} == {"SUCCEEDED"}


@REGISTERED
@pytest.mark.parametrize("way", ["gives way", "soon"])
async def test_ending_a_response(make_runner: MakeRunner, way: str, functions: Any) -> None:
    """As the ASGI wrapper does it, which is never deeper than what has registered."""
    runner = make_runner(limit=2, max_threads=2)
    callbacks: list[Callback[Any]] = []

    def end(exchange: Exchange) -> None:
        host: Any = exchange.host
        if exchange.end():
            (host.give_way if way == "gives way" else host.dispatch_soon)(exchange)

    for left in lefts():
        with entered(exchange := loop_exchange(runner)):
            callbacks += [after_response(function) for function in functions]
            callbacks.append(after_response.using(when="success")(int))
        exchange.start(200, ())
        exchange.complete()
        found = with_frames_left(left, functools.partial(end, exchange))
        if found is not None:
            assert left < 4, "less than any app needs"
            end(exchange)
            exchange.host.dispatch(exchange)
    await runner.drain(DEADLINE)
    async with asyncio.timeout(DEADLINE):
        while unsettled(runner):
            await asyncio.sleep(0.001)
    at_rest(runner, callbacks)
    assert {callback.state.name for callback in callbacks} == {"SUCCEEDED"}


def test_the_callback_itself(make_runner: MakeRunner) -> None:
    """One that comes back in at its deepest point: it fails, or not, as it likes."""
    runner = make_runner(limit=2, max_threads=2)
    callbacks: list[Callback[Any]] = []
    seen: list[Any] = []

    def deep(left: int) -> None:
        token = current_exchange.set(exchange)
        found = with_frames_left(left, lambda: after_response(int))
        current_exchange.reset(token)
        (callbacks if isinstance(found, Callback) else seen).append(found)

    exchange = thread_exchange(runner)
    with entered(exchange):
        for left in lefts(step=3):
            callbacks.append(after_response(deep, left))
    finish(exchange)
    asyncio.run(runner.drain(DEADLINE))
    at_rest(runner, callbacks)
    assert {callback.state.name for callback in callbacks} == {"SUCCEEDED"}
    assert seen
