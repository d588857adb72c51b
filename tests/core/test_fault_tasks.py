"""Callbacks that meddle with tasks, waiters, registrations and loops; no other is harmed."""

import asyncio
import sys
import threading
from typing import Any

import pytest

from async_after import (
    Callback,
    CallbackState,
    Runner,
    aafter_response,
    after_response,
    exchange_scope,
)

from .conftest import (
    DEADLINE,
    MakeRunner,
    ended,
    entered,
    finish,
    free,
    gone,
    loop_exchange,
    own_threads,
    responding,
    started,
    thread_exchange,
)
from .exchange.test_exchange_threads import frequent_switches as frequent_switches
from .full import full, nothing, some_turns
from .test_faults import LANES, on_lane, registrar_of, still_works
from .test_faults import single as single

SUCCEEDED, FAILED = CallbackState.SUCCEEDED, CallbackState.FAILED
DROPPED = CallbackState.DROPPED
in_background = after_response.using(lane="background")


# What they do to their task.


async def cancels_and_waits() -> None:
    cancel_current()
    await asyncio.sleep(0)


async def cancels_and_returns() -> None:
    cancel_current()


async def cancels_and_goes_on() -> str:
    cancel_current()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        await some_turns()
    return "done"


async def cancels_and_takes_it_back() -> str:
    task = cancel_current()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        task.uncancel()
    await some_turns()
    return "done"


async def cancels_three_times() -> None:
    for _ in range(3):
        cancel_current()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass
    cancel_current()
    await asyncio.Event().wait()


async def takes_back_too_much() -> str:
    task = asyncio.current_task()
    assert task is not None
    for _ in range(3):
        task.uncancel()
    return "done"


def cancel_current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return task


@pytest.mark.parametrize("lane", ["loop", "background"])
@pytest.mark.parametrize(
    ("function", "states"),
    [
        (cancels_and_waits, {FAILED, DROPPED}),
        (cancels_and_returns, {SUCCEEDED}),
        (cancels_and_goes_on, {SUCCEEDED}),
        (cancels_and_takes_it_back, {SUCCEEDED}),
        (cancels_three_times, {FAILED, DROPPED}),
        (takes_back_too_much, {SUCCEEDED}),
    ],
)
async def test_cancels_its_own_task(
    single: Runner, lane: str, function: Any, states: set[CallbackState]
) -> None:
    """It ends as what it makes of it; those behind it go on, in tasks that are not cancelled."""
    cancelling: list[int] = []

    async def behind() -> None:
        task = asyncio.current_task()
        assert task is not None
        cancelling.append(task.cancelling())
        await asyncio.sleep(0)

    with responding(loop_exchange(single)):
        callback = registrar_of(lane)(function)
        following = [registrar_of(lane)(behind) for _ in range(3)]
    await single.drain(DEADLINE)
    assert callback.state in states
    assert {c.state for c in following} == {SUCCEEDED}
    assert cancelling == [0, 0, 0]


async def test_never_ends(single: Runner) -> None:
    """Nor lets itself be cancelled: its timeout asks once, and shutdown names it in time."""
    asked, let_go = [0], asyncio.Event()

    async def clings() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                asked[0] += 1

    with responding(loop_exchange(single)):
        callback = after_response.using(timeout=0.01)(clings)
    await asyncio.sleep(0.05)
    assert (asked, callback.state) == ([1], CallbackState.RUNNING)
    single.capacity._bounds = type(single.capacity._bounds)(
        limit=1, wait_timeout=0.0, close_timeout=0.01
    )
    async with asyncio.timeout(DEADLINE):
        await single.aclose()
    assert callback.done()
    let_go.set()
    await free(single)


# Those that wait.


@pytest.mark.parametrize("how", ["is cancelled", "times out", "gives up in a task"])
async def test_a_waiter_that_does_not_stay(single: Runner, how: str) -> None:
    """It has lent its only slot; in the end there is one slot again, and no more."""
    wanted: list[Callback[Any]] = []
    waits, go_on = asyncio.Event(), asyncio.Event()

    async def waiter() -> str:
        waits.set()
        if how == "times out":
            with pytest.raises(TimeoutError):
                await wanted[0].wait(0.001)
        elif how == "gives up in a task":
            for _ in range(3):
                task = asyncio.create_task(wanted[0].wait(DEADLINE))
                await some_turns()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        else:
            await wanted[0].wait(DEADLINE)
        return "gave up"

    with entered(loop_exchange(single)) as other:
        wanted.append(after_response(go_on.wait))
    with responding(loop_exchange(single)):
        waiting, behind = after_response(waiter), after_response(nothing)
    await started(waits)
    finish(other)  # it gets the slot that is lent
    if how == "is cancelled":
        await some_turns()
        assert wanted[0].state is CallbackState.RUNNING
        waiting.cancel()
    await ended(waiting)
    go_on.set()
    await single.drain(DEADLINE)
    assert waiting.state is (CallbackState.CANCELLED if how == "is cancelled" else SUCCEEDED)
    assert {wanted[0].state, behind.state} == {SUCCEEDED}
    assert single.capacity.limiter.used == 0
    await still_works(single)


async def test_waiters_outside_that_are_cancelled(single: Runner) -> None:
    async with full(single, waiting=1) as state:
        callback = state.waiting[0]
        tasks = [asyncio.ensure_future(callback.wait()) for _ in range(10)]
        await some_turns()
        for task in tasks[:5]:
            task.cancel()
        done = await asyncio.gather(*tasks[:5], return_exceptions=True)
        assert {type(error) for error in done} == {asyncio.CancelledError}
        assert callback.state is CallbackState.PENDING
    await asyncio.gather(*tasks[5:])
    assert callback.state is SUCCEEDED
    assert not single.capacity.ledger._running


# What they register.


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("concurrent", [False, True])
async def test_generations(single: Runner, lane: str, concurrent: bool) -> None:
    """Each registers its successor, a thousand times: no recursion of ours, nothing kept."""
    registrar = registrar_of(lane, concurrent=concurrent)
    last = threading.Event()

    def generation(left: int) -> None:
        if left:
            registrar(function, left - 1)
        else:
            last.set()

    function = on_lane(lane, generation)
    with responding(loop_exchange(single)):
        registrar(function, 1000)
    await started(last)
    await single.drain(DEADLINE)
    assert single.statistics().succeeded == 1001


async def test_scopes_in_callbacks_in_scopes(single: Runner) -> None:
    depth: list[int] = []

    async def on_loop(left: int) -> None:
        async with exchange_scope():
            await aafter_response(in_thread if left % 2 else on_loop, left - 1)

    def in_thread(left: int) -> None:
        depth.append(left)
        if left > 0:
            with exchange_scope():
                after_response(on_loop if left % 2 else in_thread, left - 1)

    with responding(loop_exchange(single)):
        callbacks: list[Callback[None]] = [after_response(in_thread, 8), after_response(on_loop, 7)]
    await single.drain(DEADLINE)
    assert {callback.state for callback in callbacks} == {SUCCEEDED}
    assert len(depth) >= 2


# Loops.


def test_a_loop_closed_underfoot(make_runner: MakeRunner) -> None:
    """Callbacks of every kind are under way; another loop goes on with the same slots."""
    runner = make_runner(limit=2, max_threads=2)
    let_go = threading.Event()
    running = threading.Event()
    callbacks: list[Callback[Any]] = []

    def plain() -> None:
        running.set()
        let_go.wait(DEADLINE)

    async def main() -> None:
        with responding(loop_exchange(runner)):
            callbacks.append(after_response(plain))
            callbacks.append(after_response(nothing))
            callbacks.append(after_response(int))
        with responding(loop_exchange(runner)):
            callbacks.append(after_response.using(timeout=DEADLINE)(asyncio.Event().wait))
            callbacks.append(in_background(nothing))
        with responding(loop_exchange(runner)):
            callbacks.append(after_response.using(concurrent=True)(nothing))
            callbacks.append(after_response.using(concurrent=True)(int))
        await started(running)

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # "Task was destroyed"
    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()

    async def next_life() -> None:
        with responding(loop_exchange(runner)):
            callbacks.append(after_response(nothing))
        let_go.set()
        await runner.drain(DEADLINE)
        await free(runner)
        await runner.aclose()

    asyncio.run(next_life())
    states = [callback.state for callback in callbacks]
    assert states == [
        *(SUCCEEDED, DROPPED, SUCCEEDED),
        *(DROPPED, SUCCEEDED),
        *(DROPPED, SUCCEEDED),
        SUCCEEDED,
    ]
    assert not runner.capacity.ledger._running


def test_a_request_of_a_thread_whose_loop_is_closed(make_runner: MakeRunner) -> None:
    """Its exchange ends when its loop is no more: what needs the loop is dropped at once."""
    runner = make_runner(limit=1)
    exchanges = []

    async def main() -> None:
        exchanges.append(loop_exchange(runner))

    asyncio.run(main())
    with responding(exchanges[0]):
        callbacks: list[Callback[Any]] = [
            after_response(nothing), after_response(int), in_background(nothing),
        ]  # fmt: skip
    asyncio.run(runner.drain(DEADLINE))
    assert [callback.state for callback in callbacks] == [DROPPED, SUCCEEDED, SUCCEEDED]
    asyncio.run(runner.aclose())
    asyncio.run(free(runner))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
async def test_an_eager_task_factory(single: Runner) -> None:
    """Order, slots and ends as ever; also for the tasks that callbacks make."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009 -- not in 3.11
    order: list[int] = []

    async def works(number: int) -> None:
        await asyncio.create_task(step(number))
        await asyncio.gather(asyncio.sleep(0), asyncio.create_task(nothing()))
        await aafter_response(order.append, -number)

    async def step(number: int) -> None:
        order.append(number)

    async def fails() -> None:
        await asyncio.create_task(raises())

    async def raises() -> None:
        raise ValueError

    with responding(loop_exchange(single)):
        for number in (1, 2, 3):
            await aafter_response(works, number)
        failing = after_response(fails)
        late = after_response.using(timeout=0.01)(asyncio.Event().wait)
        assert not order, "begun inside the request"
    await single.drain(DEADLINE)
    assert order == [1, 2, 3, -1, -2, -3]
    assert (failing.state, late.state) == (FAILED, CallbackState.TIMED_OUT)


@pytest.mark.usefixtures("frequent_switches")
def test_a_close_while_threads_register(make_runner: MakeRunner) -> None:
    """However the two meet, no worker is left over."""
    before = own_threads()

    def registers(left: int) -> None:
        if left:
            after_response(registers, left - 1)

    async def life() -> None:
        runner = make_runner(limit=2, max_threads=2, wait_timeout=0, close_timeout=DEADLINE)
        with responding(thread_exchange(runner)):
            for _ in range(3):
                after_response.using(concurrent=True)(registers, 5)
        await runner.aclose()
        await free(runner)
        statistics = runner.statistics()
        assert (statistics.pending, statistics.running, statistics.waiting) == (0, 0, 0)
        await gone(own_threads() - before)

    for _ in range(100):
        asyncio.run(life())
