"""``lane="background"``: coroutine functions on an event loop of the runner's own."""

import asyncio
import functools
import gc
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from asgiref.local import Local
from asgiref.sync import sync_to_async

from async_after import Callback, CallbackState, Runner, aafter_response, after_response
from async_after._core.lanes.surroundings import OwnSurroundings

from ..conftest import (
    DEADLINE,
    MakeRunner,
    ended,
    free,
    gone,
    loop_exchange,
    own_threads,
    records,
    responding,
    started,
    thread_exchange,
)

SUCCEEDED, FAILED = CallbackState.SUCCEEDED, CallbackState.FAILED
DROPPED, CANCELLED = CallbackState.DROPPED, CallbackState.CANCELLED
in_background = after_response.using(lane="background")
NAME = "async_after background loop"


@pytest.fixture(autouse=True)
def before() -> Iterator[set[threading.Thread]]:
    """The threads of other tests. No background loop outlives a test of these."""
    before = own_threads()
    yield before
    for thread in own_threads() - before:
        thread.join(DEADLINE if thread.name == NAME else 0)
        assert not (thread.name == NAME and thread.is_alive()), "the background loop has not ended"


@pytest.fixture
async def background(make_runner: MakeRunner) -> Any:
    """A runner that is closed at the end."""
    runner = make_runner(wait_timeout=0.0, close_timeout=DEADLINE)
    yield runner
    await runner.aclose()


async def where() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


async def forever() -> None:
    await asyncio.Event().wait()


def background_threads(before: set[threading.Thread]) -> int:
    return len([thread for thread in own_threads() - before if thread.name == NAME])


async def test_runs_in_one_thread_of_the_runner(
    background: Runner, before: set[threading.Thread]
) -> None:
    callbacks: list[Callback[Any]] = []
    for _ in range(5):
        with responding(loop_exchange(background)):
            callbacks += [in_background(where), in_background.using(concurrent=True)(where)]
    with responding(thread_exchange(background)):  # those without a loop run there anyhow
        callbacks += [in_background(where), after_response(where)]
    await background.drain(DEADLINE)
    assert {callback.result() for callback in callbacks} == {NAME}
    assert background_threads(before) == 1


def test_no_thread_before_the_first_callback(
    make_runner: MakeRunner, before: set[threading.Thread]
) -> None:
    runner = make_runner()
    with responding(thread_exchange(runner)):
        after_response.using(lane="background", when="error")(where)
        after_response(int)
    asyncio.run(runner.drain(DEADLINE))
    assert background_threads(before) == 0


def test_only_coroutine_functions() -> None:
    with pytest.raises(TypeError, match='lane="background" cannot run the plain function'):
        in_background(int)
    with pytest.raises(TypeError, match='lane="background" cannot run the plain function'):
        in_background(functools.partial(int, "1"))


async def test_only_coroutine_functions_async() -> None:
    with pytest.raises(TypeError, match='lane="background" cannot run the plain function'):
        await aafter_response.using(lane="background")(int)


async def test_in_order_over_all_lanes(background: Runner) -> None:
    order: list[tuple[int, str]] = []

    async def coroutine(number: int) -> None:
        await asyncio.sleep(0)
        plain(number)

    def plain(number: int) -> None:
        name = threading.current_thread().name
        order.append((number, "worker" if "worker" in name else name))

    main = threading.current_thread().name
    lanes: dict[str, tuple[Any, Any]] = {
        NAME: (in_background, coroutine),
        main: (after_response, coroutine),
        "worker": (after_response, plain),
    }
    names = [NAME, NAME, main, "worker", NAME, "worker", "worker", main, main, NAME, main]
    with responding(loop_exchange(background)):
        for number, name in enumerate(names):
            registrar, function = lanes[name]
            registrar(function, number)
    await background.drain(DEADLINE)
    assert order == [*enumerate(names)]


async def test_what_it_registers_joins_the_end(background: Runner) -> None:
    order: list[str] = []

    async def registers() -> None:
        after_response(order.append, "plain")
        in_background(says, "background")
        await aafter_response(says, "loop")

    async def says(word: str) -> None:
        order.append(word)

    with responding(loop_exchange(background)):
        in_background(registers)
        after_response(order.append, "behind")
    await background.drain(DEADLINE)
    assert order == ["behind", "plain", "background", "loop"]


async def test_blocking_holds_nobody_up(background: Runner) -> None:
    """While it blocks its thread, this loop goes on, and so do callbacks of other lanes."""
    blocked, let_go, seen = threading.Event(), threading.Event(), threading.Event()

    async def blocks() -> bool:
        blocked.set()
        return let_go.wait(DEADLINE)

    with responding(loop_exchange(background)):
        callback = in_background(blocks)
    await started(blocked)
    with responding(loop_exchange(background)):
        after_response(asyncio.sleep, 0)
        last = after_response(seen.set)
    await ended(last)
    assert seen.is_set()
    assert callback.state is CallbackState.RUNNING
    let_go.set()
    assert await callback.wait(DEADLINE) is True


# Ends of its own.


async def test_cancel(background: Runner) -> None:
    running, cleaned = threading.Event(), threading.Event()

    async def victim() -> None:
        running.set()
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    with responding(loop_exchange(background)):
        callback, following = in_background(victim), in_background(where)
    await started(running)
    assert not callback.cancel()
    await background.drain(DEADLINE)
    assert cleaned.is_set()
    assert (callback.state, following.state) == (CANCELLED, SUCCEEDED)


async def test_cancel_before_it_has_begun(background: Runner) -> None:
    let_go, blocked = threading.Event(), threading.Event()

    async def blocks() -> None:
        blocked.set()
        let_go.wait(DEADLINE)

    with responding(loop_exchange(background)):
        in_background(blocks)
        behind = in_background(where)
    await started(blocked)
    assert behind.cancel()
    # This one has its slot already, and is on its way to the blocked loop.
    with responding(loop_exchange(background)):
        coming = in_background(where)
    assert not coming.cancel()
    let_go.set()
    await background.drain(DEADLINE)
    assert {behind.state, coming.state} == {CANCELLED}


async def test_timeout(background: Runner) -> None:
    with responding(loop_exchange(background)):
        late = in_background.using(timeout=0.01)(forever)
        following = in_background(where)
    await background.drain(DEADLINE)
    assert (late.state, following.state) == (CallbackState.TIMED_OUT, SUCCEEDED)


@pytest.mark.parametrize("how", ["own task", "by hand"])
async def test_one_that_cancels_itself(background: Runner, how: str) -> None:
    """Those behind it go on: this is not the end of that loop."""

    async def cancels() -> None:
        if how == "by hand":
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with responding(loop_exchange(background)):
        cancelled = in_background(cancels)
        others: list[Callback[Any]] = [
            in_background(where),
            after_response(where),
            after_response(int),
        ]
    await background.drain(DEADLINE)
    assert cancelled.state in (FAILED, DROPPED)
    assert {callback.state for callback in others} == {SUCCEEDED}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
async def test_what_it_raises_ends_no_loop(
    background: Runner,
    before: set[threading.Thread],
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    interrupted = threading.Event()
    monkeypatch.setattr("_thread.interrupt_main", interrupted.set)

    async def raises() -> None:
        await asyncio.sleep(0)
        raise error

    with responding(loop_exchange(background)):
        in_background(asyncio.sleep, 0, 1)
        raising = in_background(raises)
        following = in_background(where)
    await background.drain(DEADLINE)
    assert type(raising.exception()) is error
    assert following.result() == NAME
    assert background_threads(before) == 1
    if error is KeyboardInterrupt:
        await started(interrupted)
    assert interrupted.is_set() is (error is KeyboardInterrupt)
    gc.collect()  # asyncio complains of the task here, and not in some other test


async def test_a_task_of_a_callback_that_exits(
    background: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    """A task that a callback has left behind raises SystemExit: the loop goes on."""
    has_raised = threading.Event()

    async def exits() -> None:
        has_raised.set()
        raise SystemExit(3)

    async def leaves() -> None:
        tasks.append(asyncio.create_task(exits()))

    tasks: list[asyncio.Task[None]] = []
    with responding(loop_exchange(background)):
        in_background(leaves)
    await started(has_raised)
    with responding(loop_exchange(background)):
        following = in_background(where)
    assert await following.wait(DEADLINE) == NAME
    assert "the background loop, which goes on" in caplog.text
    assert isinstance(tasks[0].exception(), SystemExit)


# The context.

variable = ContextVar("variable", default="default")
local = Local()


async def test_contexts_are_kept(background: Runner) -> None:
    """Also asgiref's Locals, which belong to the thread of the registration."""

    async def look() -> tuple[str, str]:
        await asyncio.sleep(0)
        found = variable.get(), getattr(local, "language", "none")
        variable.set("changed")
        local.language = "changed"
        return found

    callbacks = []
    with responding(loop_exchange(background)):
        for word in ("first", "second"):
            variable.set(word)
            local.language = word
            callbacks.append(in_background(look))
        variable.set("after")
        del local.language
    await background.drain(DEADLINE)
    assert [callback.result() for callback in callbacks] == [("first",) * 2, ("second",) * 2]
    assert (variable.get(), hasattr(local, "language")) == ("after", False)


async def test_thread_sensitive_calls(background: Runner) -> None:
    """They go to a worker, all of a callback to the same one, and leave nothing."""
    threads: list[list[str]] = []

    async def asks() -> None:
        call = sync_to_async(lambda: threading.current_thread().name)
        threads.append([await call() for _ in range(3)])

    with responding(loop_exchange(background)):
        for _ in range(3):
            in_background(asks)
    await background.drain(DEADLINE)
    assert all(len(set(names)) == 1 and "worker" in names[0] for names in threads), threads
    assert (lane := background.capacity.background._lane) is not None
    assert isinstance(lane.surroundings, OwnSurroundings)
    assert not lane.surroundings._sessions.workers
    assert all(not worker.sessions for worker in background.capacity.pool._workers)


# Its life.


async def test_closes_and_opens_again(make_runner: MakeRunner) -> None:
    runner = make_runner()
    before = own_threads()
    for _ in range(3):
        runner.attach()
        with responding(loop_exchange(runner)):
            callbacks = [in_background(where) for _ in range(3)]
        await runner.drain(DEADLINE)
        assert {callback.result() for callback in callbacks} == {NAME}
        assert runner.detach()
        await runner.aclose()
        await gone(own_threads() - before)
    await free(runner)


async def test_aclose_cancels_it(background: Runner, caplog: pytest.LogCaptureFixture) -> None:
    running, cleaned = threading.Event(), threading.Event()

    async def victim() -> None:
        running.set()
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    with responding(loop_exchange(background)):
        callbacks = [in_background.using(name=name)(victim) for name in ("running", "pending")]
    await started(running)
    async with asyncio.timeout(DEADLINE):
        await background.aclose()
    assert cleaned.is_set()
    assert {callback.state for callback in callbacks} == {DROPPED}
    messages = [record.getMessage() for record in records(caplog)]
    assert [message.split()[1] for message in messages if "was dropped" in message] == [
        "pending",
        "running",
    ]


@pytest.mark.parametrize("how", ["blocks", "clings"])
async def test_aclose_ends_in_time(make_runner: MakeRunner, how: str) -> None:
    """Though a callback blocks the loop or does not let itself be cancelled."""
    runner = make_runner(limit=1, wait_timeout=0.0, close_timeout=0.01)
    before = own_threads()
    running, let_go = threading.Event(), threading.Event()

    async def blocks() -> None:
        running.set()
        let_go.wait(DEADLINE)

    async def clings() -> None:
        running.set()
        while not let_go.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                pass

    with responding(loop_exchange(runner)):
        stuck = in_background(blocks if how == "blocks" else clings)
        behind = in_background(where)
    await started(running)
    with responding(loop_exchange(runner)):
        in_line = in_background(where)
    async with asyncio.timeout(DEADLINE):
        await runner.aclose()
    assert not let_go.is_set()
    assert {stuck.state, behind.state, in_line.state} == {DROPPED}
    # And a new life does not have to wait for the old loop.
    runner.attach()
    with responding(thread_exchange(runner)):
        again = in_background(where)
    let_go.set()
    assert await again.wait(DEADLINE) == NAME
    await free(runner)
    await runner.aclose()
    await gone(own_threads() - before)


async def test_tasks_that_callbacks_leave_behind_end_with_it(make_runner: MakeRunner) -> None:
    runner = make_runner()
    before = own_threads()
    left, ended_too = threading.Event(), threading.Event()

    async def goes_on() -> None:
        left.set()
        try:
            await forever()
        finally:
            ended_too.set()

    tasks: list[asyncio.Task[None]] = []

    async def leaves() -> None:
        tasks.append(asyncio.create_task(goes_on()))

    with responding(loop_exchange(runner)):
        in_background(leaves)
    await started(left)
    await runner.drain(DEADLINE)
    await runner.aclose()
    await gone(own_threads() - before)
    assert ended_too.is_set()
    assert tasks[0].cancelled()


def test_closing_against_registering(make_runner: MakeRunner) -> None:
    """Whatever is registered while it closes and opens ends, one way or the other."""
    runner = make_runner(wait_timeout=0.0, close_timeout=DEADLINE)
    before = own_threads()
    callbacks: list[Callback[Any]] = []
    stop = threading.Event()

    def register() -> None:
        while not stop.is_set() and len(callbacks) < 3000:
            with responding(thread_exchange(runner)):
                callbacks.append(in_background(where))

    async def close() -> None:
        for _ in range(20):
            await runner.aclose()

    thread = threading.Thread(target=register, daemon=True)
    thread.start()
    asyncio.run(close())
    stop.set()
    thread.join(DEADLINE)
    asyncio.run(runner.drain(DEADLINE))
    states = [callback.state for callback in callbacks]
    assert set(states) <= {SUCCEEDED, DROPPED}
    assert runner.statistics().registered == len(callbacks)
    asyncio.run(free(runner))
    asyncio.run(runner.aclose())
    asyncio.run(gone(own_threads() - before))


async def test_no_thread_can_be_started(
    background: Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        with responding(loop_exchange(background)):
            lost, following = in_background(where), after_response(where)
        await ended(following)
    assert (lost.state, following.state) == (DROPPED, SUCCEEDED)
    assert "can't start new thread" in caplog.text
    await free(background)
