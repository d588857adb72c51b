"""A place is for what runs: what waits, for a thread or for another callback, holds none."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from async_after import Callback, CallbackState, Runner, after_response, exchange_scope
from async_after._core.exchange import Exchange
from async_after.asgi import AfterResponseMiddleware
from async_after.wsgi import AfterResponseMiddleware as WsgiMiddleware

from ..conftest import (
    DEADLINE,
    MakeRunner,
    ended,
    entered,
    finish,
    free,
    loop_exchange,
    responding,
    thread_exchange,
)
from ..full import app, nothing, request
from ..lanes.test_overdue import Stuck
from ..ways import check_at_rest, unsettled

PENDING, SUCCEEDED = CallbackState.PENDING, CallbackState.SUCCEEDED
LIMIT = THREADS = 3
MANY = 3 * LIMIT

Register = Callable[[], Callback[Any]]


@asynccontextmanager
async def stuck_threads(make_runner: MakeRunner) -> AsyncIterator[Runner]:
    """Functions that have timed out hold twice as many threads as there may be: all there are."""
    runner = make_runner(limit=LIMIT, max_threads=THREADS, wait_timeout=0.1, close_timeout=0.1)
    stuck = Stuck(runner)
    try:
        for number in range(2 * THREADS):
            await stuck(f"stuck {number}")
        await free(runner)
        assert runner.statistics().overdue == 2 * THREADS
        yield runner
    finally:
        await stuck.end()


# The ways in, each of one request with one callback.

Way = Callable[[Runner, Register], Awaitable[Callback[Any]]]


async def on_the_loop(runner: Runner, register: Register) -> Callback[Any]:
    with responding(loop_exchange(runner)):
        return register()


async def without_a_loop(runner: Runner, register: Register) -> Callback[Any]:
    with responding(thread_exchange(runner)):
        return register()


async def late(runner: Runner, register: Register) -> Callback[Any]:
    finish(exchange := loop_exchange(runner))
    with entered(exchange):
        return register()


async def behind_the_asgi_wrapper(runner: Runner, register: Register) -> Callback[Any]:
    found: list[Callback[Any]] = []

    async def view() -> None:
        found.append(register())

    await request(AfterResponseMiddleware(app, runner=runner, hold=False), view)
    return found[0]


async def behind_the_wsgi_wrapper(runner: Runner, register: Register) -> Callback[Any]:
    found: list[Callback[Any]] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        found.append(register())
        start_response("200 OK", [])
        return []

    served: Any = WsgiMiddleware(application, runner=runner)
    served({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *args: print).close()
    return found[0]


WAYS: dict[str, Way] = {
    "on the loop": on_the_loop,
    "without a loop": without_a_loop,
    "late": late,
    "behind the ASGI wrapper": behind_the_asgi_wrapper,
    "behind the WSGI wrapper": behind_the_wsgi_wrapper,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "in order": {},
    "concurrent": {"concurrent": True},
    "by a key": {"key": 1},
    "with a timeout": {"timeout": DEADLINE},
}
EACH_WAY = pytest.mark.parametrize("way", WAYS)


async def check_coroutines_run(runner: Runner) -> None:
    """Those of every lane, by every way, also behind a plain one of their exchange that waits."""
    callbacks: list[Callback[Any]] = []
    for way in WAYS.values():
        for options in (*OPTIONS.values(), {"lane": "background"}):
            registrar: Any = after_response.using(**options)
            callbacks.append(await way(runner, partial(registrar, nothing)))
    with responding(loop_exchange(runner)):
        after_response(int)
        callbacks.append(after_response.using(concurrent=True)(nothing))
    async with exchange_scope():
        callbacks.append(after_response(nothing))
    for callback in callbacks:
        await ended(callback)
    assert {callback.state for callback in callbacks} == {SUCCEEDED}


@EACH_WAY
@pytest.mark.parametrize("how", OPTIONS)
async def test_what_waits_for_a_thread(make_runner: MakeRunner, way: str, how: str) -> None:
    """It is waiting, holds no place, and is run when a thread is back."""
    async with stuck_threads(make_runner) as runner:
        registrar: Any = after_response.using(**OPTIONS[how])
        plain = [await WAYS[way](runner, partial(registrar, int)) for _ in range(MANY)]
        await check_coroutines_run(runner)
        assert {callback.state for callback in plain} == {PENDING}
        assert runner.capacity.limiter.used == 0
        # And the plain one of check_coroutines_run().
        assert runner.statistics().waiting == MANY + 1
    await runner.drain(DEADLINE)
    assert {callback.state for callback in plain} == {SUCCEEDED}
    await asyncio.to_thread(check_at_rest, runner)


@pytest.mark.parametrize("how", ["cancelled", "replaced", "dropped", "skipped"])
@pytest.mark.parametrize("behind", ["registered before", "late"])
async def test_what_ends_while_it_waits_for_a_thread(
    make_runner: MakeRunner, how: str, behind: str
) -> None:
    """What is behind it needs no thread, and does not wait for one."""
    async with stuck_threads(make_runner) as runner:
        exchange = loop_exchange(runner)
        callbacks: list[Callback[Any]] = []
        with responding(exchange):
            plain = after_response.using(key=1)(int)
            if behind == "registered before":
                callbacks.append(after_response(nothing))
        if how == "cancelled":
            assert plain.cancel()
        elif how == "replaced":
            with entered(exchange):
                callbacks.append(after_response.using(key=1)(nothing))
        elif how == "dropped":
            assert exchange.drop(plain, "by this test")
        else:
            assert exchange.settle(plain, CallbackState.SKIPPED)
        assert plain.done()
        if behind == "late":
            with entered(exchange):
                callbacks.append(after_response(nothing))
        for callback in callbacks:
            await ended(callback)
        assert {callback.state for callback in callbacks} == {SUCCEEDED}
        assert await exchange.idle_latch().wait(DEADLINE)
        assert runner.capacity.limiter.used == 0
        with entered(exchange):
            last = after_response(int)
        await check_coroutines_run(runner)
        assert last.state is PENDING
    await runner.drain(DEADLINE)
    assert last.state is SUCCEEDED
    await asyncio.to_thread(check_at_rest, runner)


async def test_a_plain_one_behind_it_keeps_its_place_in_the_line(make_runner: MakeRunner) -> None:
    """Of those that wait for a thread."""
    ran: list[int] = []
    async with stuck_threads(make_runner) as runner:
        first: list[Callback[Any]] = []
        for number in range(MANY):
            with responding(loop_exchange(runner)):
                first.append(after_response(int))
                after_response(ran.append, number)
        assert all(callback.cancel() for callback in first)
    await runner.drain(DEADLINE)
    assert {*ran} == {*range(MANY)}
    assert ran.index(0) < 2 * THREADS, "it was not among the first"
    await asyncio.to_thread(check_at_rest, runner)


async def resting(runner: Runner) -> None:
    """Wait until the worker has looked at all that waited for it."""
    async with asyncio.timeout(DEADLINE):
        while runner.capacity.pool._busy or runner.capacity.pool._backlog:
            await asyncio.sleep(0)


@pytest.mark.parametrize("concurrent", [False, True])
async def test_those_that_had_to_wait_for_a_thread_go_first_and_in_order(
    make_runner: MakeRunner, concurrent: bool
) -> None:
    """A thread is free, and coroutine functions stand in the line for a slot."""
    runner = make_runner(limit=2, max_threads=1)
    go_on, ran = threading.Event(), list[int]()
    steps = [asyncio.Event() for _ in range(MANY)]
    register = after_response.using(concurrent=concurrent)

    async def goes_on(number: int) -> None:
        await steps[number].wait()

    coroutines, functions = list[Callback[Any]](), list[Callback[Any]]()
    with responding(loop_exchange(runner)):
        holder = register(go_on.wait, DEADLINE)
    with responding(loop_exchange(runner)):
        coroutines.append(register(goes_on, 0))
    for number in range(MANY):
        with responding(loop_exchange(runner)):
            functions.append(register(ran.append, number))
    for number in range(1, MANY):
        with responding(loop_exchange(runner)):
            coroutines.append(register(goes_on, number))
    steps[0].set()
    await ended(coroutines[0])
    go_on.set()
    await ended(holder)
    await resting(runner)
    steps[1].set()
    await ended(coroutines[1])
    for function in functions:
        await ended(function)
    for step in steps:
        step.set()
    await runner.drain(DEADLINE)
    assert ran == [*range(MANY)]
    await asyncio.to_thread(check_at_rest, runner)


async def test_closed_while_they_wait_for_a_thread(make_runner: MakeRunner) -> None:
    async with stuck_threads(make_runner) as runner:
        plain: list[Callback[Any]] = []
        for _ in range(MANY):
            with responding(loop_exchange(runner)):
                plain += [after_response(int), after_response(nothing)]
        await runner.aclose()
        assert {callback.state for callback in plain} == {CallbackState.DROPPED}
        assert runner.capacity.limiter.used == 0
    await runner.drain(DEADLINE)
    await asyncio.to_thread(check_at_rest, runner)


async def test_a_chain_gives_its_place_back_where_it_meets_a_plain_one(
    make_runner: MakeRunner,
) -> None:
    """And takes one again for what is behind that."""
    async with stuck_threads(make_runner) as runner:
        chains: list[list[Callback[Any]]] = []
        for _ in range(MANY):
            with responding(loop_exchange(runner)):
                chains.append([after_response(each) for each in (nothing, int, nothing)])
        for chain in chains:
            await ended(chain[0])
        await check_coroutines_run(runner)
        assert {callback.state for chain in chains for callback in chain[1:]} == {PENDING}
        assert runner.capacity.limiter.used == 0
    await runner.drain(DEADLINE)
    assert {callback.state for chain in chains for callback in chain} == {SUCCEEDED}


async def test_with_the_limits_of_a_default_runner(make_runner: MakeRunner) -> None:
    """64 are stuck, 100 more want a thread."""
    runner, release = make_runner(timeout=0.05), threading.Event()
    try:
        for _ in range(64):
            with responding(loop_exchange(runner)):
                after_response(release.wait, DEADLINE)
        async with asyncio.timeout(DEADLINE):
            while runner.statistics().overdue < 64:
                await asyncio.sleep(0.001)
        for _ in range(100):
            with responding(loop_exchange(runner)):
                after_response(int)
        with responding(loop_exchange(runner)):
            callback = after_response(nothing)
        await ended(callback)
        assert callback.state is SUCCEEDED
        assert runner.statistics().waiting == 100
    finally:
        release.set()
    await runner.drain(DEADLINE)


# Those that wait for another callback.


async def awaits(callback: Callback[Any]) -> object:
    return await callback.wait(DEADLINE)


async def awaits_in_a_task(callback: Callback[Any]) -> object:
    return await asyncio.create_task(awaits(callback))


async def awaits_twice(callback: Callback[Any]) -> object:
    first, second = await asyncio.gather(awaits(callback), awaits(callback))
    assert first == second
    return first


def waits_by_a_loop(callback: Callback[Any]) -> object:
    return asyncio.run(awaits(callback))


def waits_by_asgiref(callback: Callback[Any]) -> object:
    return async_to_sync(awaits)(callback)


WAITERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "a coroutine function": (awaits, {}),
    "a task of it": (awaits_in_a_task, {}),
    "two tasks of it": (awaits_twice, {}),
    "concurrent": (awaits, {"concurrent": True}),
    "with a timeout": (awaits, {"timeout": DEADLINE}),
    "in the background": (awaits, {"lane": "background"}),
    "a plain function with a loop": (waits_by_a_loop, {}),
    "a plain function, by async_to_sync": (waits_by_asgiref, {}),
}


async def seven() -> int:
    await asyncio.sleep(0)
    return 7


WANTED: dict[str, tuple[Any, dict[str, Any]]] = {
    "a coroutine function": (seven, {}),
    "a plain function": (lambda: 7, {}),
    "concurrent": (seven, {"concurrent": True}),
    "in the background": (seven, {"lane": "background"}),
    "a plain function that returns a coroutine": (lambda: seven(), {}),
}


def exchange_of(runner: Runner, has_loop: bool) -> Exchange:
    return loop_exchange(runner) if has_loop else thread_exchange(runner)


@pytest.mark.parametrize("has_loop", [True, False], ids=["loop", "threads"])
@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("waiter", WAITERS)
async def test_what_waits_for_another(
    make_runner: MakeRunner, waiter: str, wanted: str, has_loop: bool
) -> None:
    """With one place, and two threads: it lends its place to that one, and has it again."""
    runner = make_runner(limit=1, max_threads=2)
    waits, its_options = WAITERS[waiter]
    function, options = WANTED[wanted]
    with entered(exchange_of(runner, has_loop)) as other:
        target = after_response.using(**options)(function)
    with responding(exchange_of(runner, has_loop)):
        callback = after_response.using(**its_options)(waits, target)
        behind = after_response(int)
    while callback.state is PENDING:
        await asyncio.sleep(0)
    finish(other)
    for each in (callback, behind):
        await ended(each)
    assert callback.result() == 7
    async with asyncio.timeout(DEADLINE):
        while unsettled(runner):
            await asyncio.sleep(0)
    await runner.aclose()


@pytest.mark.parametrize("how", ["is cancelled", "times out", "gives up", "is closed"])
async def test_what_ends_while_it_waits_for_another(make_runner: MakeRunner, how: str) -> None:
    """Its place is given back once."""
    runner = make_runner(limit=1, wait_timeout=0.01, close_timeout=1.0)
    with entered(loop_exchange(runner)) as other:
        target = after_response(nothing)

    async def waits() -> None:
        await target.wait(0.01 if how == "gives up" else DEADLINE)

    with responding(loop_exchange(runner)):
        timeout = 0.01 if how == "times out" else None
        callback = after_response.using(timeout=timeout)(waits)
    async with asyncio.timeout(DEADLINE):
        while callback not in runner.capacity.limiter.lent:
            await asyncio.sleep(0)
    assert runner.capacity.limiter.used == 0
    if how == "is cancelled":
        assert not callback.cancel()
    elif how == "is closed":
        await runner.aclose()
    await ended(callback)
    finish(other)
    async with asyncio.timeout(DEADLINE):
        while unsettled(runner):
            await asyncio.sleep(0)
    assert callback.state.name in ("CANCELLED", "TIMED_OUT", "FAILED", "DROPPED")
