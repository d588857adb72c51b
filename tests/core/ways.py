"""Every way in which a callback is run, without any server: for what is to hold in each.

The lanes (``lanes.test_kinds``), and beside them what is concurrent, has a timeout, comes late,
is held by a server, ends with a shutdown, or is run by the testing tools.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from async_after import Callback, Runner, after_response, get_runner
from async_after.asgi import AfterResponseMiddleware
from async_after.testing import capture_after_response
from async_after.wsgi import AfterResponseMiddleware as WsgiMiddleware

from .conftest import (
    DEADLINE,
    MakeRunner,
    ended,
    entered,
    finish,
    loop_exchange,
    responding,
    thread_exchange,
)
from .full import app, nothing, request
from .lanes.test_kinds import Register, in_plain_scope, in_scope, inline_under_wsgi, through_loop

Run = Callable[[Register, MakeRunner], Callback[Any]]


def on_a_loop(register: Register, make_runner: MakeRunner) -> Callback[Any]:
    return asyncio.run(through_loop(register, make_runner))


def in_an_async_scope(register: Register, make_runner: MakeRunner) -> Callback[Any]:
    return asyncio.run(in_scope(register, make_runner))


def late_on_a_loop(register: Register, make_runner: MakeRunner) -> Callback[Any]:
    async def main() -> Callback[Any]:
        runner = make_runner()
        finish(exchange := loop_exchange(runner))
        with entered(exchange):
            callback = register()
        await runner.drain(DEADLINE)
        return callback

    return asyncio.run(main())


def late_in_a_thread(register: Register, make_runner: MakeRunner) -> Callback[Any]:
    runner = make_runner()
    finish(exchange := thread_exchange(runner))
    with entered(exchange):
        callback = register()
    asyncio.run(runner.drain(DEADLINE))
    return callback


def at_shutdown(register: Register, make_runner: MakeRunner) -> Callback[Any]:
    async def main() -> Callback[Any]:
        runner = make_runner()
        with responding(loop_exchange(runner)):
            callback = register()
        await runner.aclose()
        return callback

    return asyncio.run(main())


def held_by_a_server(register: Register, make_runner: MakeRunner) -> Callback[Any]:
    callbacks: list[Callback[Any]] = []

    async def view() -> None:
        callbacks.append(register())

    async def main() -> None:
        await request(AfterResponseMiddleware(app, runner=make_runner(), hold=True), view)

    asyncio.run(main())
    return callbacks[0]


def under_wsgi(register: Register, make_runner: MakeRunner) -> Callback[Any]:
    callbacks: list[Callback[Any]] = []
    runner = make_runner()

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        callbacks.append(register())
        start_response("200 OK", [])
        return [b"body"]

    served = WsgiMiddleware(application, runner=runner)
    body: Any = served({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *args: print)
    assert b"".join(body) == b"body"
    body.close()
    asyncio.run(runner.drain(DEADLINE))
    return callbacks[0]


def captured(register: Register, make_runner: MakeRunner) -> Callback[Any]:
    callbacks: list[Callback[Any]] = []
    exchange = thread_exchange(make_runner())
    with suppress(BaseException), capture_after_response(execute=True), responding(exchange):
        callbacks.append(register())
    return callbacks[0]


def captured_on_a_loop(register: Register, make_runner: MakeRunner) -> Callback[Any]:
    callbacks: list[Callback[Any]] = []

    async def main() -> None:
        with suppress(BaseException):
            async with capture_after_response(execute=True):
                with responding(loop_exchange(make_runner())):
                    callbacks.append(register())

    asyncio.run(main())
    return callbacks[0]


@dataclass(frozen=True)
class Way:
    run: Run
    options: dict[str, Any] = field(default_factory=dict)
    """Of ``using()``."""

    def registrar(self, name: str) -> Any:
        more = {"key": name} if "key" in self.options else {}
        return after_response.using(**{"name": name, **self.options, **more})

    def runs(self, is_async: bool) -> bool:
        """Whether functions of this kind may go this way."""
        lane = self.options.get("lane")
        return lane is None or is_async is (lane != "threads")


_CONCURRENT: dict[str, Any] = {"concurrent": True}
WAYS: dict[str, Way] = {
    "loop": Way(on_a_loop, {"lane": "loop"}),
    "threads": Way(on_a_loop, {"lane": "threads"}),
    "background": Way(on_a_loop, {"lane": "background"}),
    "scope": Way(in_plain_scope),
    "async scope": Way(in_an_async_scope),
    "inline under WSGI": Way(inline_under_wsgi),
    "concurrent": Way(on_a_loop, _CONCURRENT),
    "concurrent in a scope": Way(in_plain_scope, _CONCURRENT),
    "concurrent in an async scope": Way(in_an_async_scope, _CONCURRENT),
    "concurrent inline": Way(inline_under_wsgi, _CONCURRENT),
    "with a timeout": Way(on_a_loop, {"timeout": DEADLINE}),
    "keyed": Way(on_a_loop, {"key": "its name"}),
    "late": Way(late_on_a_loop),
    "late in a thread": Way(late_in_a_thread),
    "at shutdown": Way(at_shutdown),
    "held by a server": Way(held_by_a_server),
    "under WSGI": Way(under_wsgi),
    "captured": Way(captured),
    "captured on a loop": Way(captured_on_a_loop),
}
KINDS_OF_WAYS = [(name, kind) for name in WAYS for kind in (False, True) if WAYS[name].runs(kind)]
"""Each with the kinds of functions that may go this way: plain, and coroutine functions."""


Function = Callable[[], Any]


def as_kind(function: Function, is_async: bool | None) -> Function:
    """The same as a plain or as a coroutine function, or as it is."""

    async def coroutine() -> Any:
        return function()

    return coroutine if is_async else function


def run_all(
    functions: dict[str, Function],
    way: str,
    is_async: bool | None,
    make_runner: MakeRunner,
    options: Callable[[str], dict[str, Any]] = lambda name: {},
) -> dict[str, Callback[Any]]:
    """Run these this way, in one exchange, with one more behind them; the callbacks by name.
    With two slots and two threads: whatever is lost of them is missed."""
    callbacks: dict[str, Callback[Any]] = {}
    runner = make_runner(limit=2, max_threads=2)

    def register() -> Callback[Any]:
        for name, function in functions.items():
            registrar = WAYS[way].registrar(name).using(**options(name))
            callbacks[name] = registrar(as_kind(function, is_async))
        callbacks["behind"] = after_response(int)
        return callbacks["behind"]

    WAYS[way].run(register, lambda: runner)
    check_at_rest(runner)
    assert callbacks.pop("behind").state.name == "SUCCEEDED"
    check_works(runner)
    return callbacks


def unsettled(runner: Runner) -> str:
    """What a runner has not given back; ``""`` if it has all."""
    capacity, statistics = runner.capacity, runner.statistics()
    left = {
        "slots": capacity.limiter.used,
        "in line": len(capacity.limiter._returned) + len(capacity.limiter._waiting),
        "exchanges": len(capacity.ledger._exchanges),
        "running": statistics.running,
        "pending": statistics.pending,
        "waiting": statistics.waiting,
        "overdue": statistics.overdue,
        "asked": len(capacity.ledger.gate.asked),
    }
    return ", ".join(f"{count} {what}" for what, count in left.items() if count)


def check_at_rest(runner: Runner) -> None:
    """All is given back: here, and in the books of the scopes. (A worker gives its slot back
    after its callback has ended.)"""
    deadline = time.monotonic() + DEADLINE
    for each in (runner, get_runner()):
        while unsettled(each) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert unsettled(each) == ""


def check_works(runner: Runner) -> None:
    """Callbacks of each kind still run, each in an exchange of its own."""

    async def main() -> None:
        callbacks: list[Callback[Any]] = []
        for registrar, function in (
            (after_response, int),
            (after_response, nothing),
            (after_response.using(lane="background"), nothing),
        ):
            with responding(loop_exchange(runner)):
                callbacks.append(registrar(function))
        for callback in callbacks:
            await ended(callback)
        assert {callback.state.name for callback in callbacks} == {"SUCCEEDED"}, callbacks
        await runner.aclose()

    asyncio.run(main())
