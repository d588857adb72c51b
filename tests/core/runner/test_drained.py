"""Promise 10, drained: ``drain()`` and ``aclose()``."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from async_after import Callback, CallbackState, Runner, after_response

from ..conftest import (
    DEADLINE,
    MakeRunner,
    ended,
    entered,
    finish,
    free,
    gone,
    loop_exchange,
    own_threads,
    records,
    responding,
    started,
)

concurrently = after_response.using(concurrent=True)
Ending = Callable[[Runner], Awaitable[None]]


async def forever() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def impatient(make_runner: MakeRunner) -> Runner:
    """It cancels at once, and then waits for what it has cancelled."""
    return make_runner(wait_timeout=0.0, close_timeout=1.0)


def dropped_names(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.getMessage() for record in records(caplog)]
    return [message.split()[1] for message in messages if "was dropped" in message]


# drain()


async def test_drain_waits(runner: Runner) -> None:
    let_go = asyncio.Event()
    with responding(loop_exchange(runner)):
        callbacks: list[Callback[Any]] = [after_response(let_go.wait), after_response(int)]
    draining = asyncio.ensure_future(runner.drain(DEADLINE))
    with pytest.raises(TimeoutError, match="not idle after 0 s: 1 exchange"):
        await runner.drain(0)
    assert not draining.done()
    let_go.set()
    await draining
    assert {callback.state for callback in callbacks} == {CallbackState.SUCCEEDED}
    await runner.drain(0)


async def test_drain_changes_nothing(runner: Runner) -> None:
    let_go = asyncio.Event()
    with responding(loop_exchange(runner)):
        waiting = after_response(let_go.wait)
    with pytest.raises(TimeoutError):
        await runner.drain(0)
    with responding(loop_exchange(runner)):
        meanwhile = after_response(int)
    assert await meanwhile.wait(DEADLINE) == 0
    assert not waiting.done()
    let_go.set()
    await runner.drain(DEADLINE)
    assert waiting.result() is True


async def test_drain_waits_for_open_exchanges(runner: Runner) -> None:
    exchange = loop_exchange(runner)
    with entered(exchange):
        after_response(int)
    with pytest.raises(TimeoutError):
        await runner.drain(0)
    finish(exchange)
    await runner.drain(DEADLINE)


@pytest.mark.parametrize("ending", [Runner.drain, Runner.aclose])
async def test_never_where_it_could_not_end(runner: Runner, ending: Ending) -> None:
    async def inside() -> None:
        await ending(runner)

    exchange = loop_exchange(runner)
    with entered(exchange):
        callback = after_response(inside)
        with pytest.raises(RuntimeError, match=r"inside GET /x \(no response\) would never end"):
            await ending(runner)
    finish(exchange)
    await runner.drain(DEADLINE)
    with pytest.raises(RuntimeError, match=r"inside its callback .*inside would never end"):
        callback.result()
    # Nothing was registered here, and so nothing is waited for.
    with entered(loop_exchange(runner)):
        await ending(runner)


# aclose()


async def test_aclose_waits(make_runner: MakeRunner, caplog: pytest.LogCaptureFixture) -> None:
    """Also for what is registered meanwhile."""
    runner = make_runner(wait_timeout=DEADLINE)
    let_go = asyncio.Event()
    nested: list[Callback[int]] = []

    async def registers() -> None:
        await let_go.wait()
        nested.append(after_response(int))

    with responding(loop_exchange(runner)):
        after_response(registers)
    closing = asyncio.ensure_future(runner.aclose())
    await asyncio.sleep(0)
    with responding(loop_exchange(runner)):
        meanwhile = after_response(int)
    await ended(meanwhile)
    let_go.set()
    await closing
    assert [meanwhile.state, nested[0].state] == [CallbackState.SUCCEEDED] * 2
    assert not records(caplog)


async def test_drained(impatient: Runner, caplog: pytest.LogCaptureFixture) -> None:
    """After the wait: what runs is cancelled, what waits is dropped, each is logged by name."""
    running, cleaned = asyncio.Event(), asyncio.Event()

    async def victim() -> None:
        running.set()
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    with responding(loop_exchange(impatient)):
        callbacks = [
            after_response.using(name="running")(victim),
            after_response.using(name="pending")(forever),
        ]
    with entered(loop_exchange(impatient)) as still_open:
        callbacks.append(after_response.using(name="open")(forever))
    await started(running)
    async with asyncio.timeout(DEADLINE):
        await impatient.aclose()
    assert cleaned.is_set()
    assert {callback.state for callback in callbacks} == {CallbackState.DROPPED}
    assert sorted(dropped_names(caplog)) == ["open", "pending", "running"]
    assert records(caplog)[-1].getMessage().startswith("shutdown: 3 callback(s) were lost")
    assert len(records(caplog)) == 4
    finish(still_open)
    await free(impatient)
    assert not impatient.capacity.ledger._exchanges


async def test_a_concurrent_one_that_waits_for_a_slot(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(limit=1, wait_timeout=0.0, close_timeout=1.0)
    running, has_started = asyncio.Event(), asyncio.Event()

    async def holds_the_slot() -> None:
        running.set()
        await forever()

    async def waits_for_the_slot() -> None:
        has_started.set()

    with responding(loop_exchange(runner)):
        after_response.using(name="first")(holds_the_slot)
        waiting = concurrently.using(name="second")(waits_for_the_slot)
    await started(running)
    async with asyncio.timeout(DEADLINE):
        await runner.aclose()
    assert waiting.state is CallbackState.DROPPED
    assert not has_started.is_set()
    assert sorted(dropped_names(caplog)) == ["first", "second"]
    await free(runner)


async def test_a_plain_one_that_waits_for_a_thread(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """More slots than threads: those without a thread have not begun, and never do."""
    before = own_threads()
    runner = make_runner(limit=5, max_threads=1, wait_timeout=0.0, close_timeout=0.01)
    running, let_go = threading.Event(), threading.Event()
    begun = threading.Event()

    def blocks() -> None:
        running.set()
        let_go.wait(DEADLINE)

    with responding(loop_exchange(runner)):
        after_response.using(name="blocks")(blocks)
    await started(running)
    with responding(loop_exchange(runner)):
        waiting = after_response.using(name="waits")(begun.set)
    async with asyncio.timeout(DEADLINE):
        await runner.aclose()
    let_go.set()
    await gone(own_threads() - before)
    assert waiting.state is CallbackState.DROPPED
    assert not begun.is_set()
    assert sorted(dropped_names(caplog)) == ["blocks", "waits"]
    assert records(caplog)[-1].getMessage().startswith("shutdown: 2 callback(s) were lost")
    assert len(records(caplog)) == 3, caplog.text
    await free(runner)


async def test_a_plain_one_that_does_not_stop(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """It is DROPPED in time; when its thread comes back the slot is free again."""
    before = own_threads()
    runner = make_runner(limit=1, wait_timeout=0.0, close_timeout=0.01)
    running, let_go = threading.Event(), threading.Event()

    def blocks() -> None:
        running.set()
        let_go.wait(DEADLINE)

    exchange = loop_exchange(runner)
    with responding(exchange):
        callback = after_response.using(name="blocks")(blocks)
    await started(running)
    async with asyncio.timeout(DEADLINE):
        await runner.aclose()
    assert callback.state is CallbackState.DROPPED
    assert dropped_names(caplog) == ["blocks"]
    let_go.set()
    await gone(own_threads() - before)
    await free(runner)
    runner.attach()
    with entered(exchange):
        late = after_response(int)
    assert await late.wait(DEADLINE) == 0


async def test_an_async_one_that_does_not_stop(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(limit=1, wait_timeout=0.0, close_timeout=0.01)
    running, let_go = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        running.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    with responding(loop_exchange(runner)):
        callback = after_response.using(name="stubborn")(stubborn)
    await started(running)
    async with asyncio.timeout(DEADLINE):
        await runner.aclose()
    assert callback.state is CallbackState.DROPPED
    assert dropped_names(caplog) == ["stubborn"]
    let_go.set()
    runner.attach()
    with responding(loop_exchange(runner)):
        following = after_response(int)
    assert await following.wait(DEADLINE) == 0
    assert runner.capacity.limiter.used <= 1


@pytest.mark.parametrize("concurrent", [False, True])
async def test_registered_after_the_deadline(
    impatient: Runner, caplog: pytest.LogCaptureFixture, concurrent: bool
) -> None:
    """A cancelled callback registers one more: that comes too late, and is accounted for."""
    running = asyncio.Event()
    nested: list[Callback[None]] = []

    async def registers() -> None:
        running.set()
        try:
            await forever()
        finally:
            registrar = after_response.using(name="nested", concurrent=concurrent)
            nested.append(registrar(asyncio.sleep, 0))

    with responding(loop_exchange(impatient)):
        after_response.using(name="outer")(registers)
    await started(running)
    async with asyncio.timeout(DEADLINE):
        await impatient.aclose()
    assert nested[0].state is CallbackState.DROPPED
    assert sorted(dropped_names(caplog)) == ["nested", "outer"]


@pytest.mark.parametrize("concurrent", [False, True])
async def test_registered_when_closed(
    runner: Runner, caplog: pytest.LogCaptureFixture, concurrent: bool
) -> None:
    registrar = after_response.using(name="n", concurrent=concurrent)
    exchange = loop_exchange(runner)
    await runner.aclose()
    with entered(exchange):
        callbacks = [registrar(int)]
        finish(exchange)
        callbacks.append(registrar(int))
    assert [callback.state for callback in callbacks] == [CallbackState.DROPPED] * 2
    assert dropped_names(caplog) == ["n", "n"]
    assert not runner.capacity.ledger._exchanges


async def test_aclose_twice_and_open_again(runner: Runner) -> None:
    await runner.aclose()
    await runner.aclose()
    runner.attach()
    with responding(loop_exchange(runner)):
        callback = after_response(int)
    assert await callback.wait(DEADLINE) == 0
    assert runner.detach()


def test_works_again_on_a_new_loop(make_runner: MakeRunner) -> None:
    """Test clients make a loop per lifespan."""
    runner = make_runner()

    async def life() -> tuple[int, None]:
        with responding(loop_exchange(runner)):
            plain, coroutine = after_response(int), after_response(asyncio.sleep, 0)
        await coroutine.wait(DEADLINE)
        results = plain.result(), coroutine.result()
        await runner.aclose()
        return results

    for _ in range(3):
        assert asyncio.run(life()) == (0, None)


async def test_only_the_last_app_closes_it(runner: Runner) -> None:
    runner.attach()
    runner.attach()
    assert not runner.detach()
    assert runner.detach()
