"""Promise 8, context_kept, and where the thread-sensitive calls of async callbacks go."""

import asyncio
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from asgiref.local import Local
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async

from async_after import Callback, CallbackState, Runner, after_response
from async_after._core.exchange import KEY, Exchange, current_exchange
from async_after._core.lanes import Worker
from async_after._core.lanes.surroundings import OwnSurroundings

from ..conftest import (
    DEADLINE,
    MakeRunner,
    ended,
    entered,
    finish,
    gone,
    loop_exchange,
    own_threads,
    responding,
    started,
    thread_exchange,
)

variable: ContextVar[str] = ContextVar("variable", default="unset")
local = Local()


async def read_variable() -> str:
    await asyncio.sleep(0)
    return variable.get()


def read_local_here() -> str:
    value: str = getattr(local, "value", "unset")
    return value


async def read_local() -> str:
    await asyncio.sleep(0)
    return read_local_here()


@pytest.mark.parametrize("function", [variable.get, read_variable], ids=["sync", "async"])
async def test_context_kept(runner: Runner, function: Callable[[], Any]) -> None:
    """The context of the registration, not that of the end of the exchange."""
    results = []
    with responding(loop_exchange(runner)) as exchange:
        for value in ("one", "two"):
            variable.set(value)
            results.append(after_response(function))
        inner = after_response(current_exchange.get)
        variable.set("later")
    assert [await result.wait(DEADLINE) for result in results] == ["one", "two"]
    assert await inner.wait(DEADLINE) is exchange


async def test_a_copy_each(runner: Runner) -> None:
    """What a callback sets is seen by no other one, nor by the view."""

    async def sets_async() -> str:
        before = variable.get()
        variable.set("async")
        return before

    def sets() -> str:
        before = variable.get()
        variable.set("sync")
        return before

    with responding(loop_exchange(runner)):
        callbacks = [after_response(f) for f in (sets, sets_async, sets, sets_async)]
    assert [await callback.wait(DEADLINE) for callback in callbacks] == ["unset"] * 4
    assert variable.get() == "unset"


@pytest.mark.parametrize("function", [read_local_here, read_local], ids=["sync", "async"])
@pytest.mark.parametrize("where", ["loop", "plain thread", "sync_to_async", "async_to_sync"])
async def test_context_kept_of_asgiref(
    runner: Runner, function: Callable[[], Any], where: str
) -> None:
    """Django's language and time zone are such Locals, tagged with a thread by asgiref."""
    exchange = loop_exchange(runner)
    callback: Callback[Any] | None = None

    def register() -> None:
        nonlocal callback
        local.value = "français"
        callback = after_response.using(request={KEY: exchange})(function)
        local.value = "english"

    async def aregister() -> None:
        register()

    match where:
        case "loop":
            register()
        case "plain thread":
            await asyncio.to_thread(register)
        case "sync_to_async":
            await sync_to_async(register)()
        case "async_to_sync":
            await asyncio.to_thread(async_to_sync(aregister))
    finish(exchange)
    assert callback is not None
    assert await callback.wait(DEADLINE) == "français"


def test_context_kept_without_a_loop(runner: Runner) -> None:
    exchange = thread_exchange(runner)
    with responding(exchange):
        local.value = "français"
        callbacks = [after_response(read_local), after_response(read_local_here)]
        del local.value
    assert exchange.idle_latch().wait_in_thread(DEADLINE)
    assert [callback.result() for callback in callbacks] == ["français"] * 2


async def test_plain_function_with_a_coroutine(runner: Runner) -> None:
    """It crosses from thread to loop, and its context with it."""

    def in_thread() -> object:
        variable.set(variable.get() + " thread")
        local.value += " thread"
        return on_loop()

    async def on_loop() -> tuple[str, str, bool]:
        is_main = threading.current_thread() is threading.main_thread()
        return variable.get(), local.value, is_main

    with responding(loop_exchange(runner)):
        variable.set("view")
        local.value = "view"
        callback = after_response(in_thread)
    assert await callback.wait(DEADLINE) == ("view thread", "view thread", True)


# Thread-sensitive calls.


def sessions(runner: Runner) -> int:
    return sum(worker.sessions for worker in runner.capacity.pool._workers)


async def idents_of_calls() -> set[int]:
    call = sync_to_async(threading.get_ident, thread_sensitive=True)
    return {await call() for _ in range(3)} | set(await asyncio.gather(call(), call()))


async def test_one_worker_each(runner: Runner) -> None:
    """All calls of one callback share a thread: its connections live there."""
    meet = asyncio.Barrier(2)

    async def calls() -> set[int]:
        idents = await idents_of_calls()
        async with asyncio.timeout(DEADLINE):
            await meet.wait()
        return idents | await idents_of_calls()

    with responding(loop_exchange(runner)):
        callbacks = [after_response.using(concurrent=True)(calls) for _ in range(2)]
    first, second = [await callback.wait(DEADLINE) for callback in callbacks]
    assert len(first) == len(second) == 1
    assert first != second
    mine = {thread.ident for thread in own_threads()}
    assert first | second <= mine
    await runner.drain(DEADLINE)
    assert sessions(runner) == 0


@pytest.mark.parametrize("how", ["returns", "raises", "is cancelled", "times out"])
async def test_the_worker_is_released(runner: Runner, how: str) -> None:
    before = own_threads()
    reserved = asyncio.Event()

    async def calls() -> None:
        await sync_to_async(int)()
        reserved.set()
        if how == "raises":
            raise ValueError
        if how != "returns":
            await asyncio.Event().wait()

    with responding(loop_exchange(runner)):
        timeout = 0.05 if how == "times out" else None
        callback = after_response.using(timeout=timeout)(calls)
    await started(reserved)
    if how == "is cancelled":
        assert not callback.cancel()
    await runner.drain(DEADLINE)
    assert sessions(runner) == 0
    made = own_threads() - before
    assert made
    await runner.aclose()
    await gone(made)


async def test_registered_in_a_view_of_django(runner: Runner) -> None:
    """Its own ThreadSensitiveContext has ended when the callback runs: nothing goes there."""
    exchange = loop_exchange(runner)
    callback: Callback[set[int]] | None = None

    def sync_view() -> threading.Thread:
        nonlocal callback
        callback = after_response(idents_of_calls)
        return threading.current_thread()

    with entered(exchange):
        async with ThreadSensitiveContext():
            view_thread = await sync_to_async(sync_view, thread_sensitive=True)()
    finish(exchange)
    assert callback is not None
    idents = await callback.wait(DEADLINE)
    assert len(idents) == 1
    assert idents <= {thread.ident for thread in own_threads()}
    assert view_thread not in own_threads()


async def test_registered_below_async_to_sync(runner: Runner) -> None:
    """The executor of that call has quit when the callback runs: it is not used."""
    exchange = loop_exchange(runner)
    callback: Callback[set[int]] | None = None

    async def inside() -> None:
        nonlocal callback
        callback = after_response.using(request={KEY: exchange})(idents_of_calls)

    await asyncio.to_thread(async_to_sync(inside))
    finish(exchange)
    assert callback is not None
    assert len(await callback.wait(DEADLINE)) == 1


def test_a_loop_of_its_own_in_the_only_worker(make_runner: MakeRunner) -> None:
    """The worker that runs the loop cannot be the one that the loop's calls wait for."""
    runner = make_runner(max_threads=1)
    exchange = thread_exchange(runner)
    with responding(exchange):
        callback = after_response(idents_of_calls)
    assert exchange.idle_latch().wait_in_thread(3.0), "deadlock"
    assert callback.state is CallbackState.SUCCEEDED
    assert len(callback.result()) == 1


async def test_a_reserved_worker_is_left_alone(make_runner: MakeRunner) -> None:
    """A plain function that blocks gets a thread of its own while there may be more."""
    runner = make_runner(max_threads=2)
    reserved, is_blocked = asyncio.Event(), threading.Event()
    let_go = threading.Event()

    async def calls() -> None:
        await sync_to_async(int)()
        reserved.set()
        await started(is_blocked)
        async with asyncio.timeout(2.0):
            await sync_to_async(int)()

    def blocks() -> None:
        is_blocked.set()
        let_go.wait(DEADLINE)

    with responding(loop_exchange(runner)):
        first = after_response(calls)
    await started(reserved)
    with responding(loop_exchange(runner)):
        after_response(blocks)
    await started(is_blocked)
    latch = first._owner.latch(first)
    was_served = await latch.wait(1.0) and first.state is CallbackState.SUCCEEDED
    let_go.set()
    await runner.drain(DEADLINE)
    assert was_served, "its call stood behind a function of somebody else"


async def test_a_call_that_outlives_its_callback(runner: Runner) -> None:
    """A task that a callback has left behind may call; no worker stays reserved for it."""
    before = own_threads()
    go_on = asyncio.Event()
    left_behind: list[asyncio.Task[int]] = []

    async def later() -> int:
        await go_on.wait()
        return await sync_to_async(threading.get_ident)()

    async def leaves_a_task() -> None:
        await sync_to_async(int)()
        left_behind.append(asyncio.ensure_future(later()))

    with responding(loop_exchange(runner)):
        callback = after_response(leaves_a_task)
    await ended(callback)
    go_on.set()
    async with asyncio.timeout(DEADLINE):
        ident = await left_behind[0]
    assert ident in {thread.ident for thread in own_threads()}
    assert sessions(runner) == 0
    made = own_threads() - before
    await runner.aclose()
    await gone(made)


async def test_a_call_while_the_callback_is_cleaned_up(runner: Runner) -> None:
    """The same, in the moment between the callback's return and its end."""
    before = own_threads()
    let_go = threading.Event()
    left_behind: list[asyncio.Future[Any]] = []
    exchange = loop_exchange(runner)
    surroundings = runner.dispatcher(asyncio.get_running_loop()).lane.surroundings
    assert isinstance(surroundings, OwnSurroundings)
    reserved = surroundings._sessions.workers

    async def late_call() -> None:
        while any(reserved.values()):
            await asyncio.sleep(0)  # until the callback has returned
        call = asyncio.ensure_future(sync_to_async(int)())
        await asyncio.sleep(0)
        let_go.set()
        await call

    async def leaves_tasks() -> None:
        left_behind.append(asyncio.ensure_future(sync_to_async(let_go.wait)(DEADLINE)))
        while not any(reserved.values()):
            await asyncio.sleep(0)
        left_behind.append(asyncio.ensure_future(late_call()))

    with responding(exchange):
        callback = after_response(leaves_tasks)
    await ended(callback)
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*left_behind)
    assert sessions(runner) == 0
    made = own_threads() - before
    await runner.aclose()
    await gone(made)


async def test_workers_are_reserved_evenly(make_runner: MakeRunner) -> None:
    """More callbacks than workers: they share, none is refused, and none outlives the pool."""
    before = own_threads()
    pool = make_runner(max_threads=2).capacity.pool
    workers: list[Worker] = [pool.reserve() for _ in range(4)]
    assert [workers.count(worker) for worker in set(workers)] == [2, 2]
    made = own_threads() - before
    pool.close()
    for worker in workers:
        pool.release(worker)
    await gone(made)


def test_exchange_is_found_from_a_plain_thread(runner: Runner) -> None:
    """Plain threads have an empty context (until Python 3.14): ``request=`` helps."""
    exchange: Exchange = thread_exchange(runner)
    seen: list[Exchange | None] = []

    def in_thread() -> None:
        seen.append(current_exchange.get())
        after_response.using(request={KEY: exchange})(seen.append, None)

    with entered(exchange):
        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join(DEADLINE)
    finish(exchange)
    assert exchange.idle_latch().wait_in_thread(DEADLINE)
    assert seen[-1] is None
    assert len(seen) == 2
    if sys.version_info < (3, 14):
        assert seen[0] is None
