"""A number of seconds that nobody can wait is refused where it enters: later it would raise in
some thread, in the middle of a shutdown say."""

import asyncio
import inspect
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from async_after import Callback, Runner, aafter_response, after_response, exchange_scope
from async_after._core.exchange import Exchange
from async_after._core.runtime import process
from async_after.testing import raise_callback_errors

from .conftest import (
    DEADLINE,
    MakeRunner,
    entered,
    free,
    loop_exchange,
    responding,
    thread_exchange,
)
from .full import nothing

LONGEST = threading.TIMEOUT_MAX
EVER = 10**12
"""A time limit: nobody waits for it at a stretch."""


@dataclass
class Taker:
    """What takes a number of seconds."""

    runner: Runner
    exchange: Exchange
    callback: Callback[Any]

    def runner_with(self, value: Any, field: str) -> object:
        return Runner(**{field: value})

    def using(self, value: Any, registrar: Any, option: str) -> object:
        return registrar.using(**{option: value})

    def drain(self, value: Any) -> object:
        return self.runner.drain(value)

    def wait(self, value: Any) -> object:
        return self.callback.wait(value)

    def wait_delivered(self, value: Any) -> object:
        return self.exchange.sealed.wait_delivered("handed", value)

    def wait_delivered_sync(self, value: Any) -> object:
        return asyncio.to_thread(self.exchange.sealed.wait_delivered_sync, "handed", value)

    def raise_errors(self, value: Any) -> object:
        return raise_callback_errors(timeout=value)


FIELDS = ("timeout", "slow_step", "switch_interval", "wait_timeout", "close_timeout")
REGISTRARS = {"after_response": after_response, "aafter_response": aafter_response}
ENTRIES: dict[str, Callable[[Taker, Any], object]] = {
    **{f"Runner({field})": partial(Taker.runner_with, field=field) for field in FIELDS},
    **{
        f"{name}.using({option})": partial(Taker.using, registrar=registrar, option=option)
        for name, registrar in REGISTRARS.items()
        for option in ("timeout", "delivery_timeout")
    },
    "drain": Taker.drain,
    "wait": Taker.wait,
    "wait_delivered": Taker.wait_delivered,
    "wait_delivered_sync": Taker.wait_delivered_sync,
    "raise_callback_errors": Taker.raise_errors,
}
NOBODY_WAITS: dict[str, Any] = {
    "not a number": math.nan,
    "infinite": math.inf,
    "huge": 1e300,
    "too large for a float": 10**400,
    "too long to be shown": 10**5000,
    "far below zero": -(10**400),
    "minus infinite": -math.inf,
}
NO_NUMBERS: dict[str, Any] = {"text": "5", "list": [5], "complex": 5j, "flag": True}


@pytest.fixture
async def taker(runner: Runner) -> Taker:
    exchange = loop_exchange(runner)
    with responding(exchange):
        callback = after_response(nothing)
    await runner.drain(DEADLINE)
    return Taker(runner, exchange, callback)


async def give(taker: Taker, entry: str, value: Any) -> object:
    taken = ENTRIES[entry](taker, value)
    return await taken if inspect.isawaitable(taken) else taken


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("value", NOBODY_WAITS)
async def test_what_nobody_can_wait(taker: Taker, entry: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"must be a number of seconds|limit \(4300 digits\)"):
        await give(taker, entry, NOBODY_WAITS[value])


IN_A_THREAD = {
    *("Runner(wait_timeout)", "Runner(close_timeout)"),
    *("drain", "wait", "wait_delivered", "wait_delivered_sync", "raise_callback_errors"),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("value", [math.nextafter(LONGEST, math.inf), int(LONGEST) + 1, 1e10, EVER])
async def test_what_no_thread_can_wait(taker: Taker, entry: str, value: float) -> None:
    if entry not in IN_A_THREAD:
        await give(taker, entry, value)
        return
    with pytest.raises(ValueError, match="must be a number of seconds"):
        await give(taker, entry, value)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("value", NO_NUMBERS)
async def test_what_is_no_number(taker: Taker, entry: str, value: str) -> None:
    with pytest.raises((TypeError, ValueError), match="must be a number of seconds"):
        await give(taker, entry, NO_NUMBERS[value])


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("value", [0.001, 1, LONGEST, int(LONGEST)])
async def test_what_is_taken(taker: Taker, entry: str, value: float) -> None:
    await give(taker, entry, value)


async def test_what_is_over_already(runner: Runner) -> None:
    """As everywhere in Python: what is left of some deadline may be below zero."""
    with entered(loop_exchange(runner)) as exchange:
        callback = after_response(nothing)
    for seconds in (0, -1, -0.5, -LONGEST):
        with pytest.raises(TimeoutError):
            await runner.drain(seconds)
        with pytest.raises(TimeoutError):
            await callback.wait(seconds)
    exchange.end()
    exchange.host.dispatch(exchange)
    await runner.drain(DEADLINE)


LANES: dict[Any, Any] = {"loop": nothing, "threads": int, "background": nothing, None: int}


async def test_the_longest_is_waited(make_runner: MakeRunner) -> None:
    """In each lane, by each that keeps time; and nobody is kept."""
    runner = make_runner(timeout=EVER, slow_step=EVER, wait_timeout=LONGEST, close_timeout=LONGEST)
    go_on = asyncio.Event()
    callbacks: list[Callback[Any]] = []
    for make in (loop_exchange, thread_exchange):
        for lane, function in LANES.items():
            if lane == "loop" and make is thread_exchange:
                continue
            with responding(make(runner)):
                options: Any = {"lane": lane, "timeout": EVER, "delivery_timeout": EVER}
                callbacks.append(after_response.using(**options)(function))
                callbacks.append(after_response.using(lane=lane)(function))
    with responding(loop_exchange(runner)):
        waited = after_response(go_on.wait)
    waiting = [
        asyncio.ensure_future(waited.wait(LONGEST)),
        asyncio.ensure_future(runner.drain(LONGEST)),
        asyncio.ensure_future(runner.aclose()),
    ]
    async with exchange_scope():
        callbacks.append(after_response.using(timeout=EVER)(int))
    await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*waiting)
    assert {callback.state.name for callback in callbacks} == {"SUCCEEDED"}
    await free(runner)


def test_the_longest_is_waited_in_a_thread(make_runner: MakeRunner) -> None:
    """As at the exit of the interpreter."""
    runner = make_runner(wait_timeout=LONGEST, close_timeout=LONGEST)
    running = threading.Event()
    with responding(thread_exchange(runner)):
        callback = after_response.using(timeout=EVER)(running.set)
    process.close([runner], goes_on=True)
    assert running.is_set()
    assert callback.state.name == "SUCCEEDED"
