"""``Runner.statistics()``: all callbacks are counted, each once, at any moment."""

import asyncio
import dataclasses
import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_after import Callback, CallbackState, Runner, after_response
from async_after._core.exchange import KEY, Statistics

from ..conftest import (
    DEADLINE,
    MakeRunner,
    ended,
    entered,
    finish,
    free,
    loop_exchange,
    responding,
    started,
    thread_exchange,
)
from ..exchange.test_exchange_threads import frequent_switches as frequent_switches
from ..full import nothing

concurrently = after_response.using(concurrent=True)
STATES = [state.value.replace(" ", "_") for state in CallbackState]
AT_REST = {"open_exchanges": 0, "waiting": 0, "overdue": 0, "pending": 0, "running": 0}


def by_name(statistics: Statistics) -> dict[str, int]:
    """Those that are not zero."""
    return {name: count for name, count in dataclasses.asdict(statistics).items() if count}


async def fails() -> None:
    raise ValueError


def at_rest(statistics: Statistics) -> bool:
    return {name: getattr(statistics, name) for name in AT_REST} == AT_REST


def test_of_a_new_runner(runner: Runner) -> None:
    statistics = runner.statistics()
    assert set(dataclasses.asdict(statistics)) == {*AT_REST, *STATES}
    assert (by_name(statistics), statistics.registered) == ({}, 0)


def test_frozen(runner: Runner) -> None:
    statistics: Any = runner.statistics()
    with pytest.raises(dataclasses.FrozenInstanceError):
        statistics.pending = 1
    assert not hasattr(statistics, "__dict__")
    thread = thread_exchange(runner)
    with entered(thread):
        after_response(int)
    assert statistics.registered == 0, "it is of its moment"
    finish(thread)
    assert thread.idle_latch().wait_in_thread(DEADLINE)


async def test_on_the_way(make_runner: MakeRunner) -> None:
    """From an open exchange to the end, one thing after the other."""
    runner = make_runner(limit=1)
    go_on, running = asyncio.Event(), asyncio.Event()

    async def holds() -> None:
        running.set()
        await go_on.wait()

    exchange = loop_exchange(runner)
    with entered(exchange):
        callbacks = [after_response(holds), after_response(nothing), concurrently(nothing)]
    assert by_name(runner.statistics()) == {"open_exchanges": 1, "pending": 3}
    exchange.start(200, ())
    exchange.complete()
    assert exchange.end()
    assert by_name(runner.statistics()) == {"pending": 3}
    exchange.host.dispatch(exchange)
    await started(running)
    assert by_name(runner.statistics()) == {"running": 1, "pending": 2, "waiting": 2}
    with entered(exchange):  # late
        callbacks.append(after_response(nothing))
    assert by_name(runner.statistics()) == {"running": 1, "pending": 3, "waiting": 3}
    callbacks[1].cancel()
    assert by_name(runner.statistics()) == {
        "running": 1, "pending": 2, "waiting": 2, "cancelled": 1,
    }  # fmt: skip
    go_on.set()
    await runner.drain(DEADLINE)
    assert by_name(runner.statistics()) == {"succeeded": 3, "cancelled": 1}
    assert runner.statistics().registered == len(callbacks) == 4


async def test_cancelled_while_its_exchange_is_open(runner: Runner) -> None:
    """It never waits for room, and takes nothing off those that do."""
    exchange = loop_exchange(runner)
    with entered(exchange):
        first = after_response.using(key=1)(nothing)
        after_response.using(key=1)(nothing)
        assert after_response(nothing).cancel()
    assert first.state is CallbackState.CANCELLED
    assert by_name(runner.statistics()) == {"open_exchanges": 1, "pending": 1, "cancelled": 2}
    finish(exchange)
    await runner.drain(DEADLINE)
    assert by_name(runner.statistics()) == {"succeeded": 1, "cancelled": 2}


async def test_every_end_has_its_total(make_runner: MakeRunner) -> None:
    runner = make_runner(wait_timeout=0.0, close_timeout=DEADLINE)
    running = asyncio.Event()

    async def holds() -> None:
        running.set()
        await asyncio.Event().wait()

    with responding(loop_exchange(runner)):
        after_response(nothing)
        after_response(fails)
        after_response.using(timeout=0.001)(asyncio.sleep, DEADLINE)
        after_response.using(when="error")(nothing)
        after_response.using(when=lambda outcome: False)(nothing)
        after_response(nothing).cancel()
        after_response(holds)
    await started(running)
    assert by_name(runner.statistics()) == {
        "running": 1, "succeeded": 1, "failed": 1, "timed_out": 1, "skipped": 2, "cancelled": 1,
    }  # fmt: skip
    await runner.aclose()
    assert by_name(runner.statistics()) == {
        "dropped": 1, "succeeded": 1, "failed": 1, "timed_out": 1, "skipped": 2, "cancelled": 1,
    }  # fmt: skip


async def test_an_exchange_without_callbacks_is_not_counted(runner: Runner) -> None:
    exchange = loop_exchange(runner)
    assert by_name(runner.statistics()) == {}
    finish(exchange)
    assert by_name(runner.statistics()) == {}


async def test_overdue(runner: Runner) -> None:
    let_go, back = threading.Event(), threading.Event()

    def overruns() -> None:
        let_go.wait(DEADLINE)

    with responding(loop_exchange(runner)):
        late = after_response.using(timeout=0.01)(overruns)
    await ended(late)
    async with asyncio.timeout(DEADLINE):
        while not runner.statistics().overdue:  # told right after the end
            await asyncio.sleep(0)
    assert by_name(runner.statistics()) == {"timed_out": 1, "overdue": 1}
    let_go.set()
    with responding(loop_exchange(runner)):
        after_response(back.set)
    await started(back)
    async with asyncio.timeout(DEADLINE):
        while runner.statistics().overdue:
            await asyncio.sleep(0.001)
    await runner.drain(DEADLINE)
    assert by_name(runner.statistics()) == {"timed_out": 1, "succeeded": 1}


# Under load.


class Sampler:
    """Looks at the statistics again and again, in a thread of its own."""

    def __init__(self, runner: Runner) -> None:
        self.begun = self.done = 0
        """Registrations that have begun, and that have returned."""
        self.wrong: list[tuple[int, Statistics, int]] = []
        self.samples = 0
        self.lock = threading.Lock()
        self._runner = runner
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._stop.is_set():
            done = self.done
            statistics = self._runner.statistics()
            begun = self.begun
            self.samples += 1
            counts = dataclasses.asdict(statistics)
            is_right = (
                statistics.registered == sum(counts[state] for state in STATES)
                and done <= statistics.registered <= begun
                and min(counts.values()) >= 0
                and statistics.waiting <= statistics.pending
            )
            if not is_right:
                self.wrong.append((done, statistics, begun))

    def register(self, register: Callable[[], Callback[Any]]) -> Callback[Any]:
        with self.lock:
            self.begun += 1
        callback = register()
        with self.lock:
            self.done += 1
        return callback

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(DEADLINE)
        assert not self.wrong, self.wrong[:3]
        assert self.samples > 10, "it has seen nothing"


@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.parametrize("overflow", ["wait", "drop"])
async def test_the_sum_is_kept_at_any_time(make_runner: MakeRunner, overflow: str) -> None:
    """Threads register, a loop finishes, callbacks fail, are cancelled, skipped and dropped."""
    runner = make_runner(limit=3, max_threads=2, pending_limit=40, overflow=overflow)
    kinds = [after_response, concurrently, after_response.using(when="error")]
    callbacks: list[Callback[Any]] = []
    with Sampler(runner) as sampler:
        for _ in range(10):
            exchange = loop_exchange(runner)

            def register(number: int, request: Any = {KEY: exchange}) -> None:  # noqa: B006
                for count in range(30):
                    registrar = kinds[(number + count) % 3].using(request=request)
                    function = (nothing, int, fails, len)[count % 4]
                    callback = sampler.register(functools.partial(registrar, function))
                    callbacks.append(callback)
                    if count % 5 == 0:
                        callback.cancel()

            threads = [asyncio.to_thread(register, number) for number in range(3)]
            work = asyncio.gather(*threads)
            await asyncio.sleep(0)
            finish(exchange)
            async with asyncio.timeout(DEADLINE):
                await work
        await runner.drain(DEADLINE)
    statistics = runner.statistics()
    assert statistics.registered == len(callbacks) == 900
    assert at_rest(statistics), statistics
    for state in CallbackState:
        told = getattr(statistics, state.value.replace(" ", "_"))
        assert told == [callback.state for callback in callbacks].count(state), state
    await free(runner)
    assert not runner.capacity.ledger._running
    assert not runner.capacity.ledger._exchanges


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["async", "sync", "concurrent", "fails", "skipped", "keyed"]),
        st.sampled_from(["nothing", "cancel", "finish", "turn"]),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(steps=STEPS, limit=st.integers(1, 3), pending=st.integers(1, 4), overflow=st.booleans())
def test_the_sum_is_kept_in_any_sequence(
    steps: list[tuple[str, str]], limit: int, pending: int, overflow: bool
) -> None:
    registrars: dict[str, Any] = {
        "async": (after_response, nothing),
        "sync": (after_response, int),
        "concurrent": (concurrently, nothing),
        "fails": (after_response, fails),
        "skipped": (concurrently.using(when="error"), int),
        "keyed": (after_response.using(key="k"), nothing),
    }
    runner = Runner(
        limit=limit, pending_limit=pending, overflow="drop" if overflow else "wait", max_threads=2
    )
    callbacks: list[Callback[Any]] = []

    async def main() -> None:
        exchange = loop_exchange(runner)
        for kind, then in steps:
            registrar, function = registrars[kind]
            with entered(exchange):
                callbacks.append(registrar(function))
            match then:
                case "cancel":
                    callbacks[len(callbacks) // 2].cancel()
                case "finish" if not exchange.is_ended:
                    finish(exchange)
                case "finish":
                    exchange = loop_exchange(runner)
                case "turn":
                    await asyncio.sleep(0)
            statistics = runner.statistics()
            assert statistics.registered == len(callbacks)
            assert 0 <= statistics.waiting <= statistics.pending
        for open_exchange in runner.capacity.ledger.exchanges():
            if not open_exchange.is_ended:
                finish(open_exchange)
        await runner.drain(DEADLINE)
        await free(runner)
        assert at_rest(runner.statistics())
        await runner.aclose()

    asyncio.run(main())
    assert runner.statistics().registered == len(callbacks)
    assert all(callback.done() for callback in callbacks)
    assert not runner.capacity.ledger._running
