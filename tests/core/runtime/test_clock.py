"""A clock that a test has frozen decides nothing: not when a callback begins, nor when it has
taken too long, nor for how long a shutdown waits."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from async_after import (
    Callback,
    CallbackState,
    Delivery,
    Runner,
    after_response,
    exchange_scope,
)
from async_after._core.exchange import Exchange
from async_after._core.runtime import LoopTimer, Pace
from async_after.asgi import AfterResponseMiddleware as ASGIWrapper
from async_after.testing import capture_after_response
from async_after.wsgi import AfterResponseMiddleware as WSGIWrapper

from ...wsgi.wsgi_client import environ_for
from ..conftest import (
    DEADLINE,
    MakeRunner,
    entered,
    finish,
    free,
    loop_exchange,
    own_threads,
    responding,
    started,
    thread_exchange,
)
from ..delivery.test_delivery import acknowledged, connected
from ..full import nothing
from ..scripts import run
from .frozen import CLOCKS, frozen

SUCCEEDED, DROPPED, TIMED_OUT = (
    CallbackState.SUCCEEDED,
    CallbackState.DROPPED,
    CallbackState.TIMED_OUT,
)
SOON = 0.02
EACH_CLOCK = pytest.mark.parametrize("clock", CLOCKS)
# The lane, and what may run there.
LANES: dict[str, Callable[[], Any]] = {"loop": nothing, "threads": int, "background": nothing}
Register = Callable[[], object]


def register_all(**options: Any) -> list[Callback[Any]]:
    """One in each lane, and one beside them."""
    each: Any = after_response
    callbacks = [each.using(lane=lane, **options)(function) for lane, function in LANES.items()]
    return [*callbacks, each.using(concurrent=True, **options)(nothing)]


@pytest.fixture(autouse=True)
def loops_end_in_their_time() -> Iterator[None]:
    """One whose executor ends while the next test freezes time complains of that."""
    before = own_threads()
    yield
    for thread in own_threads() - before:
        if "loop" in thread.name:
            thread.join(DEADLINE)


# Ways in: each serves one request, whose app calls ``register``.


async def _accept(message: Any) -> None: ...


async def _never() -> Any:
    await asyncio.Event().wait()


def _asgi(end: str, hold: bool = False) -> Callable[[Runner, Register], Awaitable[None]]:
    async def served(runner: Runner, register: Register) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            register()
            if end == "raises":
                raise LookupError
            await send({"type": "http.response.start", "status": 200, "headers": []})
            if end != "returns":
                await send({"type": "http.response.body"})

        scope = {"type": "http", "method": "GET", "path": "/"}
        wrapped = ASGIWrapper(app, runner=runner, hold=hold)
        try:
            await wrapped(scope, _never, _accept)
        except LookupError:
            assert end == "raises"

    return served


def _wsgi(lane: Any, *, raises: bool = False) -> Callable[[Runner, Register], Awaitable[None]]:
    async def served(runner: Runner, register: Register) -> None:
        def app(environ: Any, start_response: Any) -> list[bytes]:
            register()
            if raises:
                raise LookupError
            start_response("200 OK", [])
            return [b""]

        def serve() -> None:
            wrapped = WSGIWrapper(app, runner=runner, lane=lane)
            try:
                body: Any = wrapped(environ_for(), lambda status, headers: _accept)
                body.close()
            except LookupError:
                assert raises

        await asyncio.to_thread(serve)

    return served


async def in_scope(runner: Runner, register: Register) -> None:
    async with exchange_scope():
        register()


async def in_plain_scope(runner: Runner, register: Register) -> None:
    def scope() -> None:
        with exchange_scope():
            register()

    await asyncio.to_thread(scope)


async def captured(runner: Runner, register: Register) -> None:
    """The response ends a little later than the block."""
    exchange = loop_exchange(runner)
    async with capture_after_response(execute=True):
        with entered(exchange):
            register()
        threading.Timer(SOON, exchange.end).start()


async def captured_in_thread(runner: Runner, register: Register) -> None:
    def capture() -> None:
        exchange = thread_exchange(runner)
        with capture_after_response(execute=True):
            with entered(exchange):
                register()
            threading.Timer(SOON, exchange.end).start()

    await asyncio.to_thread(capture)


WAYS: dict[str, Callable[[Runner, Register], Awaitable[None]]] = {
    "ASGI": _asgi("completes"),
    "ASGI held": _asgi("completes", hold=True),
    "ASGI fails": _asgi("raises"),
    "ASGI ends early": _asgi("returns"),
    "WSGI": _wsgi("threads"),
    "WSGI inline": _wsgi("inline"),
    "WSGI fails": _wsgi("threads", raises=True),
    "scope": in_plain_scope,
    "async scope": in_scope,
    "capture": captured_in_thread,
    "async capture": captured,
}


@EACH_CLOCK
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("where", ["around all", "around the request", "in the app"])
async def test_callbacks_begin(runner: Runner, way: str, where: str, clock: str) -> None:
    callbacks: list[Callback[Any]] = []

    def register() -> None:
        callbacks.extend(register_all())

    def register_frozen() -> None:
        with frozen(clock):
            register()

    serve = WAYS[way]
    if where == "in the app":
        await serve(runner, register_frozen)
    else:
        with frozen(clock):
            await serve(runner, register)
            if where == "around all":
                await runner.drain(DEADLINE)
    await runner.drain(DEADLINE)
    assert [callback.state for callback in callbacks] == [SUCCEEDED] * 4
    await free(runner)


@EACH_CLOCK
@pytest.mark.parametrize("lane", LANES)
async def test_other_callbacks_begin_while_one_has_frozen_time(
    runner: Runner, lane: str, clock: str
) -> None:
    has_frozen, let_go = threading.Event(), threading.Event()

    def freezes() -> None:
        with frozen(clock):
            has_frozen.set()
            let_go.wait(DEADLINE)

    async def freezes_here() -> None:
        with frozen(clock):
            has_frozen.set()
            await asyncio.to_thread(let_go.wait, DEADLINE)

    others: list[Callback[Any]] = []
    exchange = loop_exchange(runner)
    with entered(exchange):
        registrar: Any = after_response.using(lane=lane)  # type: ignore[call-overload]
        first = registrar(freezes if lane == "threads" else freezes_here)
    finish(exchange)
    await started(has_frozen)
    for way in ("ASGI", "WSGI"):
        await WAYS[way](runner, lambda: others.extend(register_all()))
    for other in others:
        await other.wait(DEADLINE)
    assert not first.done()
    let_go.set()
    await runner.drain(DEADLINE)
    assert {callback.state for callback in (first, *others)} == {SUCCEEDED}


# For how long they may run.


@EACH_CLOCK
@pytest.mark.parametrize("lane", LANES)
async def test_a_timeout_ends_it_though_time_stands_still(
    runner: Runner, lane: str, clock: str
) -> None:
    let_go = threading.Event()
    registrar: Any = after_response.using(timeout=SOON, lane=lane)  # type: ignore[call-overload]
    with frozen(clock):
        with responding(loop_exchange(runner)):
            endless = asyncio.Event().wait if lane != "threads" else let_go.wait
            callback = registrar(endless)
        await runner.drain(DEADLINE)
    let_go.set()
    assert callback.state is TIMED_OUT


@EACH_CLOCK
@pytest.mark.parametrize("lane", LANES)
async def test_a_timeout_does_not_come_early(runner: Runner, lane: str, clock: str) -> None:
    """Time jumps while it runs: by years, and back."""
    has_begun, let_go = threading.Event(), threading.Event()

    def waits() -> bool:
        has_begun.set()
        return let_go.wait(DEADLINE)

    async def waits_here() -> bool:
        return await asyncio.to_thread(waits)

    registrar: Any = after_response.using(timeout=DEADLINE, lane=lane)  # type: ignore[call-overload]
    with responding(loop_exchange(runner)):
        callback = registrar(waits if lane == "threads" else waits_here)
    await started(has_begun)
    with frozen(clock):
        assert not callback.done()
        for _ in range(3):  # the loops look at the clock
            await asyncio.to_thread(int)
        let_go.set()
    assert await callback.wait(DEADLINE) is True


@EACH_CLOCK
async def test_a_timeout_in_a_scope(clock: str) -> None:
    with frozen(clock):
        async with exchange_scope():
            callback = after_response.using(timeout=SOON)(asyncio.Event().wait)
    assert callback.state is TIMED_OUT


# For how long somebody waits.


@EACH_CLOCK
async def test_waiting_ends_in_time(make_runner: MakeRunner, clock: str) -> None:
    runner = make_runner(wait_timeout=SOON, close_timeout=DEADLINE)
    with frozen(clock):
        with responding(loop_exchange(runner)):
            callback = after_response(asyncio.Event().wait)
        with pytest.raises(TimeoutError):
            await runner.drain(SOON)
        with pytest.raises(TimeoutError):
            await callback.wait(SOON)
        await runner.aclose()
    assert callback.state is DROPPED


@EACH_CLOCK
async def test_a_shutdown_is_as_patient_as_ever(make_runner: MakeRunner, clock: str) -> None:
    """It has begun when time jumps."""
    runner = make_runner(wait_timeout=DEADLINE, close_timeout=0.0)
    go_on = asyncio.Event()
    with responding(loop_exchange(runner)):
        callback = after_response(go_on.wait)
    closing = [asyncio.ensure_future(runner.aclose()), asyncio.ensure_future(callback.wait(9.0))]
    await asyncio.sleep(0)
    with frozen(clock):
        for _ in range(3):
            await asyncio.to_thread(int)
        assert not any(each.done() for each in closing)
        go_on.set()
        await asyncio.gather(*closing)
    assert callback.state is SUCCEEDED


@EACH_CLOCK
@pytest.mark.parametrize("make", [loop_exchange, thread_exchange])
async def test_waiting_for_the_acknowledgement(
    runner: Runner, make: Callable[[Runner], Exchange], clock: str
) -> None:
    """It is looked for again and again, by a callback of its own too; or its time is up."""
    with frozen(clock):
        callbacks: list[Callback[Any]] = []
        for levels in ([Delivery.HANDED] * 3 + [Delivery.ACKNOWLEDGED], [Delivery.HANDED]):
            host: Any = make(runner).host
            exchange = connected(host, *levels)
            with entered(exchange):
                callbacks.append(acknowledged.using(delivery_timeout=SOON * 5)(int))
            finish(exchange)
            assert await exchange.sealed.wait_delivered("acknowledged", SOON) in levels
        await runner.drain(DEADLINE)
    assert [callback.state for callback in callbacks] == [SUCCEEDED, CallbackState.SKIPPED]


# What else goes by a clock.


@EACH_CLOCK
def test_the_pace_of_the_log(clock: str) -> None:
    pace, moment = Pace(1, SOON), threading.Event()
    with frozen(clock):
        assert [pace.is_due(), pace.is_due()] == [True, False]
        moment.wait(2 * SOON)
        assert pace.is_due()


@EACH_CLOCK
async def test_a_timer_of_a_loop(clock: str) -> None:
    """Set before, or while time stands still; cancelled, or not."""
    loop, rang = asyncio.get_running_loop(), threading.Event()
    heard: list[str] = []
    before = LoopTimer(loop, DEADLINE, heard.append, "cancelled")
    with frozen(clock):
        LoopTimer(loop, SOON, heard.append, "first")
        LoopTimer(loop, 2 * SOON, rang.set)
        LoopTimer(loop, SOON, heard.append, "cancelled").cancel()
        await started(rang)
        before.cancel()
        before.cancel()
    assert heard == ["first"]


def test_the_exit_of_the_interpreter() -> None:
    """It waits for what ends, and gives up what does not, in a process whose time is frozen."""
    done = run(
        """
runner = Runner(wait_timeout=0.3, close_timeout=0.3)
time.monotonic = time.time = lambda: 1e9
with responding(thread_exchange(runner)):
    after_response(until_exit, "plain", seconds=float("inf"))
with responding(thread_exchange(runner)):
    stuck = in_background.using(name="stuck")(forever)
event = threading.Event()
while not runner.statistics().running == 2:
    event.wait(0.001)
at_the_very_end(stuck)
"""
    )
    assert (done.code, done.out) == (0, ["plain at exit", "DROPPED"]), done.err
    assert done.named == ["stuck"]


def test_outcomes_tell_the_frozen_date(runner: Runner) -> None:
    """What a test freezes time for."""
    with frozen("ahead"):
        exchange = thread_exchange(runner)
        exchange.start(200, ())
        exchange.complete()
        exchange.end()
        assert exchange.sealed.started_at.timestamp() == pytest.approx(time.time(), abs=1)
    assert exchange.sealed.duration < 1
