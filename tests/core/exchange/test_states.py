"""The states of a callback, as the table has them, and when each was reached."""

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from async_after import Callback, CallbackState, Runner, after_response
from async_after._core.exchange.state import NEXT

from ..conftest import DEADLINE, MakeRunner, ended, loop_exchange, responding, started

README = Path(__file__).parents[3] / "README.md"


def drawn() -> str:
    """The table as a diagram."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> PENDING: after_response()"]
    for state, following in NEXT.items():
        lines += [f"    {state.name} --> {to.name}: {why}" for to, why in following.items()]
    finals = [state for state in CallbackState if state not in NEXT]
    return "\n".join([*lines, *(f"    {state.name} --> [*]" for state in finals), "```"])


def test_the_readme_shows_the_table() -> None:
    assert drawn() in README.read_text(), f"put this there:\n{drawn()}"


class Ear:
    """Hears which states a callback goes through."""

    def __init__(self) -> None:
        self.heard: list[CallbackState] = []

    def registered(self, callback: Callback[Any]) -> None:
        self.heard.append(callback.state)

    started = ended = registered


Way = Callable[[Runner], Any]
"""Registers a callback, and does what brings it to its end."""


async def returns(runner: Runner) -> Callback[Any]:
    with responding(loop_exchange(runner)):
        return after_response(int)


async def returns_in_loop(runner: Runner) -> Callback[Any]:
    with responding(loop_exchange(runner)):
        return after_response(asyncio.sleep, 0)


async def fails(runner: Runner) -> Callback[Any]:
    with responding(loop_exchange(runner)):
        return after_response(int, "x")


async def times_out(runner: Runner) -> Callback[Any]:
    with responding(loop_exchange(runner)):
        return after_response.using(timeout=0.01)(asyncio.Event().wait)


async def is_not_wanted(runner: Runner) -> Callback[Any]:
    with responding(loop_exchange(runner)):
        return after_response.using(when="error")(int)


async def is_refused_by_its_predicate(runner: Runner) -> Callback[Any]:
    with responding(loop_exchange(runner)):
        return after_response.using(when=lambda outcome: False)(int)


async def is_cancelled(runner: Runner) -> Callback[Any]:
    with responding(loop_exchange(runner)):
        callback: Callback[Any] = after_response(int)
        assert callback.cancel()
    return callback


async def is_replaced(runner: Runner) -> Callback[Any]:
    with responding(loop_exchange(runner)):
        callback: Callback[Any] = after_response.using(key="one")(int)
        after_response.using(key="one", concurrent=True, when="error")(int)
    return callback


async def is_cancelled_while_it_runs(runner: Runner) -> Callback[Any]:
    begun = asyncio.Event()

    async def waits() -> None:
        begun.set()
        await asyncio.Event().wait()

    with responding(loop_exchange(runner)):
        callback = after_response(waits)
    await started(begun)
    assert not callback.cancel()
    return callback


async def is_dropped_at_shutdown(runner: Runner) -> Callback[Any]:
    with responding(loop_exchange(runner)):
        callback = after_response(asyncio.Event().wait)
    await runner.aclose()
    return callback


async def is_dropped_before_it_starts(runner: Runner) -> Callback[Any]:
    begun, let_go = threading.Event(), threading.Event()

    def holds() -> None:
        begun.set()
        let_go.wait(DEADLINE)

    with responding(loop_exchange(runner)):
        after_response(holds)
        callback = after_response(int)
    await started(begun)
    await runner.aclose()
    let_go.set()
    return callback


WAYS: dict[Way, tuple[CallbackState, CallbackState]] = {
    returns: (CallbackState.RUNNING, CallbackState.SUCCEEDED),
    returns_in_loop: (CallbackState.RUNNING, CallbackState.SUCCEEDED),
    fails: (CallbackState.RUNNING, CallbackState.FAILED),
    times_out: (CallbackState.RUNNING, CallbackState.TIMED_OUT),
    is_not_wanted: (CallbackState.PENDING, CallbackState.SKIPPED),
    is_refused_by_its_predicate: (CallbackState.RUNNING, CallbackState.SKIPPED),
    is_cancelled: (CallbackState.PENDING, CallbackState.CANCELLED),
    is_replaced: (CallbackState.PENDING, CallbackState.CANCELLED),
    is_cancelled_while_it_runs: (CallbackState.RUNNING, CallbackState.CANCELLED),
    is_dropped_at_shutdown: (CallbackState.RUNNING, CallbackState.DROPPED),
    is_dropped_before_it_starts: (CallbackState.PENDING, CallbackState.DROPPED),
}


def test_each_line_of_the_table_has_its_way() -> None:
    lines = {(state, to) for state, following in NEXT.items() for to in following}
    assert lines - {(CallbackState.PENDING, CallbackState.RUNNING)} == {*WAYS.values()}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_the_way_of_a_callback(way: Way, make_runner: MakeRunner) -> None:
    """Its states, and its facts: each is known once it is reached, and stays as it is."""
    ear = Ear()
    runner = make_runner(
        limit=2, max_threads=1, wait_timeout=0.05, close_timeout=0.05, instruments=[ear]
    )
    earliest = datetime.now(UTC)
    callback = await way(runner)
    await ended(callback)
    await runner.aclose()
    latest = datetime.now(UTC)
    before, final = WAYS[way]
    assert callback.state is final
    has_run = before is CallbackState.RUNNING
    if way not in (is_replaced, is_dropped_before_it_starts):  # others are heard there
        assert ear.heard == [CallbackState.PENDING, *[before] * has_run, final]

    reached = [callback.registered_at, callback.started_at, callback.ended_at]
    assert (callback.started_at is not None) is has_run
    moments = [moment for moment in reached if moment is not None]
    assert all(moment.utcoffset() == timedelta(0) for moment in moments)
    slack = timedelta(milliseconds=20)  # two clocks
    assert [earliest - slack, *moments, latest + slack] == sorted(
        [earliest - slack, *moments, latest + slack]
    )
    assert reached == [callback.registered_at, callback.started_at, callback.ended_at]
    if has_run:
        assert callback.waited is not None
        assert callback.took is not None
        assert callback.waited >= 0
        assert callback.took >= 0
        both = timedelta(seconds=callback.waited + callback.took)
        assert abs(moments[-1] - moments[0] - both) < timedelta(milliseconds=1)
    else:
        assert (callback.waited, callback.took) == (None, None)


async def test_facts_while_it_is_under_way(runner: Runner) -> None:
    seen: list[object] = []

    def looks() -> None:
        seen.extend((callback.started_at is not None, callback.waited is not None))
        seen.extend((callback.ended_at, callback.took))

    with responding(loop_exchange(runner)):
        callback: Callback[None] = after_response(looks)
        assert callback.registered_at is not None
        before = callback.started_at, callback.ended_at, callback.waited, callback.took
        assert before == (None, None, None, None)
    await runner.drain(DEADLINE)
    assert seen == [True, True, None, None]


async def test_when_its_start_is_put_off(runner: Runner) -> None:
    """``waited`` is the time until the start, ``took`` the time behind it."""
    with responding(loop_exchange(runner)):
        first = after_response(asyncio.sleep, 0.1)
        second = after_response(asyncio.sleep, 0.05)
    await runner.drain(DEADLINE)
    assert second.waited is not None
    assert first.took is not None
    assert second.took is not None
    assert second.waited >= first.took >= 0.09
    assert second.took >= 0.04
