"""An async callback that blocks the event loop is told, by name and with the way out."""

import asyncio
import time
from typing import Any

import pytest

from async_after import Callback, CallbackState, Runner, after_response

from ..conftest import DEADLINE, MakeRunner, loop_exchange, records, responding, thread_exchange

STEP = 0.05


@pytest.fixture
def watchful(make_runner: MakeRunner) -> Runner:
    return make_runner(slow_step=STEP)


async def blocks(seconds: float = 2 * STEP) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 -- what such a callback should not do


async def blocks_later() -> None:
    await asyncio.sleep(0)
    await blocks()
    await asyncio.sleep(0)


async def blocks_at_its_end() -> None:
    try:
        await asyncio.sleep(0)
    finally:
        await blocks()


async def blocks_and_fails() -> None:
    await blocks()
    raise ValueError


def returns_one() -> Any:
    """A plain function: what it returns is awaited on the loop."""
    return blocks()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in records(caplog) if r.levelname == "WARNING"]


async def test_named_with_the_way_out(watchful: Runner, caplog: pytest.LogCaptureFixture) -> None:
    with responding(loop_exchange(watchful, "/path"), 201):
        after_response.using(name="slow")(blocks, 3 * STEP)
    await watchful.drain(DEADLINE)
    [message] = warnings(caplog)
    assert message.startswith("callback slow of GET /path (201) blocked the event loop for 0.")
    assert float(message.split(" for ")[1].split(" s ")[0]) >= 2 * STEP
    assert f"(slow_step={STEP})" in message
    assert "Make it a plain def" in message
    assert 'lane="background"' in message


@pytest.mark.parametrize(
    "function", [blocks_later, blocks_at_its_end, blocks_and_fails, returns_one]
)
async def test_wherever_it_blocks(
    watchful: Runner, caplog: pytest.LogCaptureFixture, function: Any
) -> None:
    with responding(loop_exchange(watchful)):
        after_response.using(name="slow")(function)
    await watchful.drain(DEADLINE)
    assert len(warnings(caplog)) == 1


async def test_once_per_name(watchful: Runner, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("one", "one", "two", "one", "two"):
        with responding(loop_exchange(watchful)):
            after_response.using(name=name)(blocks)
    with responding(loop_exchange(watchful)):
        after_response.using(name="three")(blocks)
        after_response.using(name="three")(blocks)
    await watchful.drain(DEADLINE)
    assert [message.split()[1] for message in warnings(caplog)] == ["one", "two", "three"]


async def test_the_one_that_blocked(watchful: Runner, caplog: pytest.LogCaptureFixture) -> None:
    """Several share a task; each answers for its own steps."""
    with responding(loop_exchange(watchful)):
        for name in ("before", "blocks", "behind"):
            function = blocks if name == "blocks" else asyncio.sleep
            after_response.using(name=name)(function, 2 * STEP if name == "blocks" else 0)
    await watchful.drain(DEADLINE)
    assert [message.split()[1] for message in warnings(caplog)] == ["blocks"]


async def test_each_runner_has_names_of_its_own(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        runner = make_runner(slow_step=STEP)
        with responding(loop_exchange(runner)):
            after_response(blocks)
        await runner.drain(DEADLINE)
    assert len(warnings(caplog)) == 2


async def test_made_up_names_do_not_pile_up(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(slow_step=0.0011)
    with responding(loop_exchange(runner)):
        callback: Callback[Any] = after_response(int)
    await runner.drain(DEADLINE)
    for number in range(2500):
        callback.name = f"name{number}"
        runner.capacity.slow_step(callback, 1.0)
    assert len(runner.capacity.reports._named) <= 1000


@pytest.mark.parametrize(
    "case", ["no slow_step", "shorter", "background", "awaits for long", "thread"]
)
async def test_nobody_is_blamed(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    runner = make_runner(slow_step={"no slow_step": None, "shorter": DEADLINE}.get(case, STEP))
    registrar = after_response.using(lane="background" if case == "background" else None)
    with responding(loop_exchange(runner)):
        if case == "awaits for long":
            callback = registrar(asyncio.sleep, 3 * STEP)
        elif case == "thread":
            callback = registrar(time.sleep, 3 * STEP)
        else:
            callback = registrar(blocks)
    await runner.drain(DEADLINE)
    assert callback.state is CallbackState.SUCCEEDED
    assert not warnings(caplog)


async def test_the_background_loop_of_exchanges_without_a_loop(
    watchful: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    """WSGI: all coroutine functions share it. Who has asked for that lane may block it."""
    with responding(thread_exchange(watchful)):
        after_response(blocks)
        after_response.using(lane="background", name="asked")(blocks)
    await watchful.drain(DEADLINE)
    (message,) = warnings(caplog)
    assert "test_slow_step.blocks of GET /x (200) blocked the event loop" in message
    assert "no other coroutine function of the background loop went on" in message
    assert "lane=" not in message
