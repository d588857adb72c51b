"""Plain functions that do not come back in time, and callbacks that run very long."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from async_after import Callback, CallbackState, Runner, after_response
from async_after._core.capacity import reports

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

SUCCEEDED, TIMED_OUT = CallbackState.SUCCEEDED, CallbackState.TIMED_OUT
in_time = after_response.using(timeout=0.01)


class Stuck:
    """Plain functions that hold their thread until ``let_go``."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.let_go = threading.Event()
        self.callbacks: list[Callback[Any]] = []

    async def __call__(self, name: str) -> None:
        """One more is overdue."""
        running = threading.Event()

        def overruns() -> None:
            running.set()
            self.let_go.wait(DEADLINE)

        before = self.runner.statistics().overdue
        with responding(loop_exchange(self.runner)):
            callback = in_time.using(name=name)(overruns)
        self.callbacks.append(callback)
        await started(running)
        await ended(callback)
        assert callback.state is TIMED_OUT
        async with asyncio.timeout(DEADLINE):
            while self.runner.statistics().overdue == before:  # told right after the end
                await asyncio.sleep(0)

    async def end(self) -> None:
        """They return, and no thread is missing or left over."""
        self.let_go.set()
        await self.runner.drain(DEADLINE)
        async with asyncio.timeout(DEADLINE):
            while self.runner.statistics().overdue:
                await asyncio.sleep(0.001)
        assert {callback.state for callback in self.callbacks} == {TIMED_OUT}


def about_the_lane(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.getMessage() for record in records(caplog)]
    return [message for message in messages if "worker threads are full" in message]


async def works(runner: Runner) -> bool:
    """Whether a plain function gets a thread."""
    ran = threading.Event()
    with responding(loop_exchange(runner)):
        after_response(ran.set)
    await started(ran)
    return True


async def test_replaced_while_few_are_overdue(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """Each has a substitute, so that the lane has its threads as before."""
    runner = make_runner(max_threads=3)
    before, stuck = own_threads(), Stuck(runner)
    for number in range(2):
        await stuck(f"stuck{number}")
        assert runner.statistics().overdue == number + 1
    meet = threading.Barrier(3)
    with responding(loop_exchange(runner)):
        three = [after_response.using(concurrent=True)(meet.wait, DEADLINE) for _ in range(3)]
    await asyncio.gather(*(ended(callback) for callback in three))
    assert {callback.state for callback in three} == {SUCCEEDED}
    assert not about_the_lane(caplog)
    await stuck.end()
    made = own_threads() - before
    await runner.aclose()
    await gone(made)
    await free(runner)


async def test_full_and_well_again(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """Substitutes are overdue too: no more threads; that is told with their names."""
    runner = make_runner(max_threads=2)
    before, stuck = own_threads(), Stuck(runner)
    for number in range(4):
        await stuck(f"stuck{number}")
    assert runner.statistics().overdue == 4
    workers = [t for t in own_threads() - before if "worker" in t.name]
    assert len(workers) == 4
    ran: list[int] = []
    with responding(loop_exchange(runner)):
        waiting = [after_response.using(concurrent=True)(ran.append, n) for n in range(3)]
        coroutine = after_response(asyncio.sleep, 0)
    await ended(coroutine)
    assert {callback.state for callback in waiting} == {CallbackState.PENDING}
    [message] = about_the_lane(caplog)
    assert all(f"stuck{number}" in message for number in range(4)), message
    assert "(max_threads=2)" in message
    await stuck.end()
    assert {callback.state for callback in waiting} == {SUCCEEDED}
    assert sorted(ran) == [0, 1, 2]
    assert await works(runner)
    assert len([t for t in own_threads() - before if "worker" in t.name and t.is_alive()]) <= 4
    made = own_threads() - before
    await runner.aclose()
    await gone(made)
    await free(runner)


async def test_said_once_a_minute(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(max_threads=1)
    stuck = Stuck(runner)
    await stuck("stuck0")
    await stuck("stuck1")
    for _ in range(5):
        with responding(loop_exchange(runner)):
            after_response(int)
    assert len(about_the_lane(caplog)) == 1
    runner.capacity.pool._full_pace._since -= 61
    with responding(loop_exchange(runner)):
        after_response(int)
    assert len(about_the_lane(caplog)) == 2
    await stuck.end()


async def test_surplus_threads_end(make_runner: MakeRunner) -> None:
    """A substitute and the one that comes back: afterwards there are ``max_threads`` again."""
    runner = make_runner(max_threads=1)
    before, stuck = own_threads(), Stuck(runner)
    await stuck("stuck0")
    assert await works(runner)
    await stuck("stuck1")
    await stuck.end()
    async with asyncio.timeout(DEADLINE):
        while len(runner.capacity.pool._workers) > 1:
            await asyncio.sleep(0.001)
    assert await works(runner)
    made = own_threads() - before
    await runner.aclose()
    await gone(made)


async def test_one_that_comes_back_at_its_timeout(runner: Runner) -> None:
    """End and timeout race: one of the two, and no thread is thought overdue for ever."""
    with responding(loop_exchange(runner)):
        callbacks = [
            after_response.using(timeout=0.002, concurrent=True)(threading.Event().wait, 0.002)
            for _ in range(50)
        ]
    await runner.drain(DEADLINE)
    assert {callback.state for callback in callbacks} <= {SUCCEEDED, TIMED_OUT}
    async with asyncio.timeout(DEADLINE):
        while runner.statistics().overdue:
            await asyncio.sleep(0.001)
    await free(runner)


async def test_a_close_does_not_wait_for_the_overdue(make_runner: MakeRunner) -> None:
    """They are accounted for, and a thread cannot be stopped."""
    runner = make_runner()
    before, stuck = own_threads(), Stuck(runner)
    await stuck("stuck")
    async with asyncio.timeout(DEADLINE):
        await runner.aclose()
    assert not stuck.let_go.is_set()
    stuck.let_go.set()
    await gone(own_threads() - before)
    assert runner.statistics().overdue == 0


async def test_async_ones_still_have_their_threads(make_runner: MakeRunner) -> None:
    """An async callback's thread-sensitive calls do not go to a thread that is stuck."""
    from asgiref.sync import sync_to_async

    runner = make_runner(max_threads=2)
    stuck = Stuck(runner)
    await stuck("stuck0")
    await stuck("stuck1")

    async def asks() -> str:
        return await sync_to_async(lambda: threading.current_thread().name)()

    with responding(loop_exchange(runner)):
        asking = after_response(asks)
    assert "async_after worker" in await asking.wait(DEADLINE)
    await stuck.end()


# Without a timeout.


def long_ones(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.getMessage() for record in records(caplog)]
    return [message for message in messages if "has been running for" in message]


class LongOnes:
    """Callbacks of every kind that run until ``let_go``."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    async def on_loop(self) -> None:
        await asyncio.to_thread(self.let_go.wait, DEADLINE)

    def in_thread(self) -> None:
        self.let_go.wait(DEADLINE)


@pytest.mark.parametrize("make", [loop_exchange, thread_exchange], ids=["loop", "no loop"])
@pytest.mark.parametrize("kind", ["async", "sync", "background"])
async def test_long_ones_are_named_once(
    runner: Runner,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Runner], Any],
    kind: str,
) -> None:
    monkeypatch.setattr(reports, "LONG", 0.02)
    work = LongOnes()
    named = after_response.using(name=kind, lane="background" if kind == "background" else None)
    with responding(make(runner)):
        callback: Callback[None] = named(work.in_thread if kind == "sync" else work.on_loop)
    async with asyncio.timeout(DEADLINE):
        while not long_ones(caplog):
            await asyncio.sleep(0.001)
        # Those that come later are named in their own time, and nobody a second time.
        with responding(make(runner)):
            other = named.using(name=f"other {kind}")(
                work.in_thread if kind == "sync" else work.on_loop
            )
        while len(long_ones(caplog)) < 2:
            await asyncio.sleep(0.001)
    work.let_go.set()
    await runner.drain(DEADLINE)
    assert [callback.state, other.state] == [SUCCEEDED, SUCCEEDED]
    assert [message.split(" of GET")[0] for message in long_ones(caplog)] == [
        f"callback {kind}",
        f"callback other {kind}",
    ]
    assert {record.levelname for record in records(caplog)} == {"WARNING"}


async def test_not_named(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those with a timeout, be it the runner's; those that only wait to start; those that end."""
    monkeypatch.setattr(reports, "LONG", 0.02)
    runner = make_runner(limit=2, timeout=DEADLINE)
    monkeypatch.setattr(runner.capacity, "timeout_of", lambda callback: runner_timeout(callback))

    def runner_timeout(callback: Callback[Any]) -> float | None:
        callback._timeout = None if callback.name == "named" else DEADLINE
        return callback._timeout

    work = LongOnes()
    with responding(loop_exchange(runner)):
        after_response.using(name="with a timeout")(work.on_loop)
    with responding(loop_exchange(runner)):
        after_response.using(name="short")(int)
        after_response.using(name="named")(work.on_loop)
        after_response.using(name="waits")(work.on_loop)
    async with asyncio.timeout(DEADLINE):
        while not long_ones(caplog):
            await asyncio.sleep(0.001)
    work.let_go.set()
    await runner.drain(DEADLINE)
    assert [message.split(" of GET")[0] for message in long_ones(caplog)] == ["callback named"]
