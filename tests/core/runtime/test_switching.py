"""While plain functions run in threads the interpreter switches threads sooner, and only then."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from async_after import Callback, Runner, after_response

from ..conftest import DEADLINE, MakeRunner, loop_exchange, responding, started
from ..scripts import run

BEFORE, OURS, OTHER = 0.004, 0.002, 0.001
"""Seconds, and the interpreter keeps them exactly."""


@pytest.fixture(autouse=True)
def interval() -> Iterator[None]:
    kept = sys.getswitchinterval()
    sys.setswitchinterval(BEFORE)
    yield
    sys.setswitchinterval(kept)


class Held:
    """A plain function that is in its thread until it is let go."""

    def __init__(self) -> None:
        self.is_in = threading.Event()
        self.go = threading.Event()
        self.seen = 0.0

    def __call__(self) -> None:
        self.seen = sys.getswitchinterval()
        self.is_in.set()
        assert self.go.wait(DEADLINE)


async def begun(runner: Runner) -> tuple[Held, Callback[None]]:
    held = Held()
    with responding(loop_exchange(runner)):
        callback = after_response(held)
    await started(held.is_in)
    return held, callback


async def over(held: Held, callback: Callback[None]) -> None:
    held.go.set()
    await callback.wait(DEADLINE)


async def back_at(seconds: float) -> None:
    """A worker is free a moment after its callback has ended."""
    async with asyncio.timeout(DEADLINE):
        while sys.getswitchinterval() != seconds:
            await asyncio.sleep(0.001)


async def test_while_it_runs(make_runner: MakeRunner) -> None:
    held, callback = await begun(make_runner(switch_interval=OURS))
    assert held.seen == OURS
    await over(held, callback)
    await back_at(BEFORE)


async def test_until_the_last_one_ends(make_runner: MakeRunner) -> None:
    runner = make_runner(switch_interval=OURS)
    first, second = await begun(runner), await begun(runner)
    await over(*first)
    third = await begun(runner)
    await over(*second)
    assert third[0].seen == sys.getswitchinterval() == OURS
    await over(*third)
    await back_at(BEFORE)


@pytest.mark.parametrize("first", [0, 1])
async def test_two_runners(make_runner: MakeRunner, first: int) -> None:
    """The lowest counts, in whichever order they end."""
    held = [await begun(make_runner(switch_interval=seconds)) for seconds in (OURS, OTHER)]
    assert held[1][0].seen == OTHER
    await over(*held.pop(first))
    await back_at(OURS if first else OTHER)
    await over(*held.pop())
    await back_at(BEFORE)


@pytest.mark.parametrize("wanted", [None, BEFORE, 2 * BEFORE])
async def test_never_raised(make_runner: MakeRunner, wanted: float | None) -> None:
    held, callback = await begun(make_runner(switch_interval=wanted))
    assert held.seen == BEFORE
    await over(held, callback)
    assert sys.getswitchinterval() == BEFORE


async def test_what_somebody_else_sets_stays(make_runner: MakeRunner) -> None:
    runner = make_runner(switch_interval=OURS)
    held, callback = await begun(runner)
    sys.setswitchinterval(2 * BEFORE)
    await over(held, callback)
    async with asyncio.timeout(DEADLINE):
        while runner.capacity.pool._busy:
            await asyncio.sleep(0.001)
    held, callback = await begun(runner)
    assert held.seen == OURS
    await over(held, callback)
    await back_at(2 * BEFORE)


async def test_coroutine_functions_do_without(make_runner: MakeRunner) -> None:
    seen = []

    async def looks() -> None:
        await asyncio.sleep(0)
        seen.append(sys.getswitchinterval())

    with responding(loop_exchange(make_runner(switch_interval=OURS))):
        callback = after_response(looks)
    await callback.wait(DEADLINE)
    assert seen == [BEFORE]


@pytest.mark.parametrize("wrong", [0, -1, 1e-7, float("nan"), float("inf"), True, "0.1"])
def test_what_the_interpreter_would_not_take(wrong: float) -> None:
    with pytest.raises((TypeError, ValueError), match=r"switch_interval=\.\.\.\) must be a number"):
        Runner(switch_interval=wrong)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_meanwhile() -> None:
    """In the child none of them runs."""
    done = run(
        """
sys.setswitchinterval(0.004)
runner = Runner(switch_interval=0.002)

def forks():
    pid = os.fork()
    if not pid:
        print(sys.getswitchinterval(), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    say(sys.getswitchinterval())

with responding(thread_exchange(runner)):
    after_response(forks)
asyncio.run(runner.drain(DEADLINE))
""",
        "-W",
        "ignore::DeprecationWarning",
    )
    assert (done.code, done.err, done.out) == (0, "", ["0.004", "0.002"])
