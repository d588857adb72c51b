"""Promise 9, bounded: what waits, who waits for room, and who never does."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from async_after import Callback, CallbackState, Runner, aafter_response, after_response
from async_after._core.capacity import overflow as room
from async_after._core.conf import Overflow
from async_after.asgi import AfterResponseMiddleware

from ..conftest import (
    DEADLINE,
    MakeRunner,
    ended,
    entered,
    finish,
    free,
    loop_exchange,
    records,
    responding,
    started,
)
from ..full import app, full, nothing, request, some_turns

SUCCEEDED, PENDING = CallbackState.SUCCEEDED, CallbackState.PENDING
OVERFLOWS: tuple[Overflow, ...] = ("wait", "drop", "raise")
concurrently = after_response.using(concurrent=True)


@pytest.fixture
def never_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for room goes on when there is some, or not within the deadline."""
    monkeypatch.setattr(room, "STALLED", 10 * DEADLINE)


@pytest.fixture
def small(make_runner: MakeRunner) -> Runner:
    return make_runner(limit=1, pending_limit=1, wait_timeout=0.0, close_timeout=1.0)


async def registers(runner: Runner, path: str = "/x") -> Callback[Any]:
    """A request whose view asks for room, up to its end."""
    with responding(loop_exchange(runner, path)):
        return await aafter_response(nothing)


# overflow="wait"


@pytest.mark.usefixtures("never_stalled")
async def test_bounded_waits_for_room_and_goes_on(small: Runner) -> None:
    async with full(small) as state:
        waiting = asyncio.ensure_future(registers(small))
        await some_turns()
        assert not waiting.done()
        assert small.statistics().registered == 2, "it is registered when there is room"
        await state.let_go()
        async with asyncio.timeout(DEADLINE):
            callback = await waiting
    assert callback.state is SUCCEEDED
    assert {c.state for c in state.waiting} == {SUCCEEDED}


@pytest.mark.usefixtures("never_stalled")
@pytest.mark.parametrize("how", ["cancelled", "skipped", "dropped"])
async def test_room_made_by_one_that_never_starts(small: Runner, how: str) -> None:
    async with full(small, waiting=0) as state:
        with responding(loop_exchange(small)):
            first = after_response.using(when="error" if how == "skipped" else "always")(nothing)
        waiting = asyncio.ensure_future(registers(small))
        await some_turns()
        assert not waiting.done()
        if how == "cancelled":
            assert first.cancel()
        elif how == "dropped":
            first._owner.settle(first, CallbackState.DROPPED, reason="by this test")
        else:
            await state.let_go()
        async with asyncio.timeout(DEADLINE):
            await waiting


@pytest.mark.usefixtures("never_stalled")
async def test_all_that_wait_for_room_go_on(small: Runner) -> None:
    """And one of them that is cancelled takes nobody else with it."""
    async with full(small) as state:
        waiting = [asyncio.ensure_future(registers(small)) for _ in range(5)]
        await some_turns()
        waiting[0].cancel()
        await some_turns()
        assert [task.done() for task in waiting] == [True, False, False, False, False]
        await state.let_go()
        async with asyncio.timeout(DEADLINE):
            callbacks = await asyncio.gather(*waiting[1:])
            await small.drain()
    assert {callback.state for callback in callbacks} == {SUCCEEDED}
    assert small.statistics().registered == 2 + 4


@pytest.mark.usefixtures("never_stalled")
async def test_room_is_seen_from_another_loop(small: Runner) -> None:
    """A loop in another thread waits for the room that this one makes."""
    is_there = threading.Event()

    async def elsewhere() -> CallbackState:
        asyncio.get_running_loop().call_soon(is_there.set)
        callback = await registers(small)
        await ended(callback)
        return callback.state

    async with full(small) as state:
        thread = asyncio.create_task(asyncio.to_thread(asyncio.run, elsewhere()))
        await started(is_there)
        await state.let_go()
        assert await asyncio.wait_for(thread, DEADLINE) is SUCCEEDED


async def test_after_response_never_waits(small: Runner, caplog: pytest.LogCaptureFixture) -> None:
    """What it brings over the limit is kept, and that is logged once a minute."""
    async with full(small) as state:
        state.queue(10)
        assert small.statistics().waiting == 11
    assert {c.state for c in state.waiting} == {SUCCEEDED}
    [record] = records(caplog)
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith(
        "the runner is full: 2 callbacks of finished requests wait to start (pending_limit=1),"
        " and 1 may run at once (limit). They are kept; views wait"
    )


@pytest.mark.usefixtures("never_stalled")
@pytest.mark.parametrize("overflow", OVERFLOWS)
async def test_an_open_exchange_never_waits_for_its_own(
    make_runner: MakeRunner, overflow: Overflow
) -> None:
    runner = make_runner(limit=1, pending_limit=1, overflow=overflow)
    exchange = loop_exchange(runner)
    async with asyncio.timeout(DEADLINE):
        with entered(exchange):
            callbacks = [await aafter_response(nothing) for _ in range(5)]
            callbacks += [after_response(nothing) for _ in range(5)]
    assert {callback.state for callback in callbacks} == {PENDING}
    assert (runner.statistics().waiting, runner.statistics().open_exchanges) == (0, 1)
    finish(exchange)
    await runner.drain(DEADLINE)
    kept = 2 if overflow == "drop" else 10
    assert [c.state for c in callbacks] == [SUCCEEDED] * kept + [CallbackState.DROPPED] * (
        10 - kept
    )


@pytest.mark.usefixtures("never_stalled")
@pytest.mark.parametrize("overflow", OVERFLOWS)
async def test_requests_that_register_nothing_are_never_held_up(
    make_runner: MakeRunner, overflow: Overflow
) -> None:
    runner = make_runner(limit=1, pending_limit=1, overflow=overflow)
    wrapped = AfterResponseMiddleware(app, runner=runner)
    async with full(runner), asyncio.timeout(DEADLINE):
        await request(wrapped)


# Inside a callback.


async def ask_for_room() -> Callback[None]:
    return await aafter_response(nothing)


async def ask_in_a_task() -> Callback[None]:
    return await asyncio.create_task(ask_for_room())


async def ask_in_a_thread() -> Callback[None]:
    """As a plain function below sync_to_async would, in a loop of its own."""
    context = asyncio.to_thread(lambda: asyncio.run(ask_for_room()))
    return await context


@pytest.mark.usefixtures("never_stalled")
@pytest.mark.parametrize("ask", [ask_for_room, ask_in_a_task, ask_in_a_thread])
@pytest.mark.parametrize(
    "registrar",
    [after_response, concurrently, after_response.using(lane="background")],
    ids=["sequential", "concurrent", "background"],
)
async def test_never_inside_a_callback(
    make_runner: MakeRunner, registrar: Any, ask: Callable[[], Awaitable[Any]]
) -> None:
    """It holds a slot itself: here the only one."""
    runner = make_runner(limit=1, pending_limit=1)
    running, go_on = threading.Event(), threading.Event()
    nested: list[Callback[None]] = []

    async def asks() -> None:
        running.set()
        await asyncio.to_thread(go_on.wait, DEADLINE)
        nested.append(await ask())

    with responding(loop_exchange(runner)):
        asking = registrar(asks)
    await started(running)
    for _ in range(3):
        with responding(loop_exchange(runner)):
            after_response(nothing)
    assert runner.statistics().waiting == 3
    go_on.set()
    await runner.drain(DEADLINE)
    assert asking.state is SUCCEEDED, asking.exception()
    assert nested[0].state is SUCCEEDED


@pytest.mark.usefixtures("never_stalled")
async def test_a_task_that_outlived_its_callback_waits(small: Runner) -> None:
    """It holds no slot any more."""
    left_behind: list[asyncio.Task[Callback[None]]] = []
    go_on = asyncio.Event()

    async def later() -> Callback[None]:
        await go_on.wait()
        return await aafter_response(nothing)

    async def leaves() -> None:
        left_behind.append(asyncio.create_task(later()))

    with responding(loop_exchange(small)):
        callback = after_response(leaves)
    await ended(callback)
    async with full(small) as state:
        go_on.set()
        await some_turns()
        assert not left_behind[0].done()
        await state.let_go()
        async with asyncio.timeout(DEADLINE):
            late = await left_behind[0]
            await ended(late)
    assert late.state is SUCCEEDED


async def test_not_for_ever(small: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback waits for a request, and its view waits for room."""
    monkeypatch.setattr(room, "STALLED", 0.02)
    answered = asyncio.Event()

    async def calls_its_own_site() -> None:
        await started(answered)

    with responding(loop_exchange(small)):
        calling = after_response(calls_its_own_site)
    await some_turns()
    with responding(loop_exchange(small)):
        behind = after_response(nothing)
    async with asyncio.timeout(DEADLINE):
        callback = await registers(small)
        answered.set()
        await small.drain()
    assert [calling.state, behind.state, callback.state] == [SUCCEEDED] * 3


@pytest.mark.usefixtures("never_stalled")
async def test_other_kinds_of_overflow_wait_for_nothing(make_runner: MakeRunner) -> None:
    runner = make_runner(limit=1, pending_limit=1, overflow="drop")
    async with full(runner), asyncio.timeout(DEADLINE):
        assert (await registers(runner)).state is CallbackState.DROPPED


# No deadlock.


@pytest.mark.parametrize("overflow", ["wait", "raise"])
async def test_a_view_that_registers_more_than_the_limit(
    make_runner: MakeRunner, overflow: Overflow
) -> None:
    runner = make_runner(limit=2, max_threads=2, pending_limit=2, overflow=overflow)
    ran: list[int] = []
    with responding(loop_exchange(runner)):
        for number in range(50):
            after_response(ran.append, number)
            concurrently(nothing)
            after_response.using(lane="background")(nothing)
            concurrently(ran.append, number)
    await runner.drain(DEADLINE)
    assert sorted(ran) == sorted([*range(50)] * 2)
    assert runner.statistics().succeeded == 200
    await free(runner)


@pytest.mark.parametrize("registrar", [after_response, concurrently], ids=["sequential", "other"])
async def test_a_callback_that_registers_more_than_the_limit(small: Runner, registrar: Any) -> None:
    ran: list[int] = []

    async def registers_many() -> None:
        for number in range(10_000):
            registrar(ran.append, number)

    with responding(loop_exchange(small)):
        registrar(registers_many)
    await small.drain(2 * DEADLINE)
    assert ran == [*range(10_000)]
    assert small.statistics().succeeded == 10_001
    await free(small)


@pytest.mark.parametrize("hold", [None, True, False])
@pytest.mark.parametrize("client", ["direct", "httpx"])
async def test_a_callback_that_requests_its_own_app(
    small: Runner, client: str, hold: bool | None
) -> None:
    """In this very process, and that request has callbacks too. One slot for all."""
    ran: list[str] = []

    async def site(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path == "/outer":
            await aafter_response(calls)
        await aafter_response(ran.append, path)
        await app({"view": nothing}, receive, send)

    async def calls() -> None:
        if client == "direct":
            await wrapped({"type": "http", "method": "GET", "path": "/inner"}, no_more, ignored)
        else:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(wrapped)) as http:
                (await http.get("http://test/inner")).raise_for_status()
        ran.append("called")

    async def no_more() -> Any:
        await asyncio.Event().wait()

    async def ignored(message: Any) -> None: ...

    wrapped = AfterResponseMiddleware(site, runner=small, hold=hold)
    scope = {"type": "http", "method": "GET", "path": "/outer"}
    outer = asyncio.ensure_future(wrapped(scope, no_more, ignored))
    try:
        async with asyncio.timeout(DEADLINE / 2):
            await outer
            await small.drain()
    except TimeoutError:
        statistics = small.statistics()
        await small.aclose()
        pytest.fail(f"deadlock: {statistics}")
    assert sorted(ran) == ["/inner", "/outer", "called"]
    await free(small)


@pytest.mark.parametrize("is_async", [False, True])
async def test_callbacks_that_wait_for_a_request_that_waits(small: Runner, is_async: bool) -> None:
    """A callback waits for a callback of a request that it has made itself."""
    wrapped = AfterResponseMiddleware(app, runner=small, hold=False)
    inner: list[Callback[Any]] = []

    async def view() -> None:
        inner.append(await aafter_response(nothing if is_async else int))

    async def calls() -> None:
        await request(wrapped, view)
        await inner[0].wait(DEADLINE)

    with responding(loop_exchange(small)):
        callback = after_response(calls)
    await small.drain(DEADLINE)
    assert callback.state is SUCCEEDED, callback.exception()
    await free(small)
