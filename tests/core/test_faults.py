"""Promise 5, isolated, and promise 2 under every fault: one callback's harms no other."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import markcoroutinefunction

from async_after import Callback, CallbackState, Outcome, Runner, after_response

from .conftest import (
    DEADLINE,
    MakeRunner,
    ended,
    free,
    loop_exchange,
    responding,
    thread_exchange,
)
from .full import nothing

SUCCEEDED, FAILED = CallbackState.SUCCEEDED, CallbackState.FAILED
DROPPED = CallbackState.DROPPED
in_background = after_response.using(lane="background")
LANES = ["loop", "threads", "background"]
ERRORS: list[BaseException] = [
    ExceptionGroup("several", [ValueError(), KeyError()]),
    BaseExceptionGroup("several", [SystemExit(), asyncio.CancelledError()]),
    StopIteration(1),
    StopAsyncIteration(),
    MemoryError(),
    asyncio.CancelledError("by hand"),
    SystemExit(3),
    GeneratorExit(),
    TimeoutError("of its own"),
    asyncio.InvalidStateError(),
]


def by_type(error: object) -> str:
    return type(error).__name__


def on_lane(lane: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same as a plain or as a coroutine function."""

    async def coroutine(*args: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args)

    return function if lane == "threads" else coroutine


def registrar_of(lane: str, **options: Any) -> Any:
    options["lane"] = lane
    return after_response.using(**options)


@pytest.fixture
async def single(make_runner: MakeRunner) -> Any:
    """A runner with one slot and one thread: whatever is lost of them is missed."""
    runner = make_runner(limit=1, max_threads=1, wait_timeout=1.0, close_timeout=1.0)
    yield runner
    await free(runner)
    statistics = runner.statistics()
    assert (statistics.pending, statistics.running, statistics.waiting) == (0, 0, 0)
    await runner.aclose()


async def still_works(runner: Runner) -> None:
    with responding(loop_exchange(runner)):
        callbacks: list[Callback[Any]] = [
            after_response(int),
            after_response(nothing),
            in_background(nothing),
        ]
    for callback in callbacks:
        await ended(callback)
    assert {callback.state for callback in callbacks} == {SUCCEEDED}


# What callbacks raise.


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("error", ERRORS, ids=by_type)
async def test_what_it_raises(single: Runner, error: BaseException, lane: str) -> None:
    def fails() -> None:
        raise error

    with responding(loop_exchange(single)):
        failing = registrar_of(lane)(on_lane(lane, fails))
        following = registrar_of(lane)(on_lane(lane, int))
    await single.drain(DEADLINE)
    assert (failing.state, following.state) == (FAILED, SUCCEEDED)
    raised = failing.exception()
    if lane != "threads" and isinstance(error, StopIteration):
        assert isinstance(raised, RuntimeError), "as PEP 479 has it"
    else:
        assert raised is error
    await still_works(single)


@pytest.mark.parametrize("lane", LANES)
async def test_endless_recursion(single: Runner, lane: str) -> None:
    def recurses() -> None:
        recurses()

    with responding(loop_exchange(single)):
        failing = registrar_of(lane)(on_lane(lane, recurses))
    await single.drain(DEADLINE)
    assert isinstance(failing.exception(), RecursionError)
    await still_works(single)


async def test_a_marked_function_that_raises_before_its_coroutine(single: Runner) -> None:
    """It is called on the loop; a StopIteration there is no good end."""

    def marked() -> Any:
        raise StopIteration("no coroutine")

    markcoroutinefunction(marked)
    with responding(loop_exchange(single)):
        failing, following = after_response(marked), after_response(nothing)
    await single.drain(DEADLINE)
    assert (failing.state, following.state) == (FAILED, SUCCEEDED)


@pytest.mark.parametrize("what", ["nothing", "number", "broken awaitable", "broken send"])
async def test_a_marked_function_that_returns_something_else(single: Runner, what: str) -> None:
    class BrokenAwaitable:
        def __await__(self) -> Any:
            raise LookupError

    class BrokenSend:
        def send(self, value: object) -> Any:
            raise LookupError

        def throw(self, *error: object) -> Any:
            raise LookupError

        def close(self) -> None: ...

    returned = {
        "nothing": None,
        "number": 7,
        "broken awaitable": BrokenAwaitable(),
        "broken send": BrokenSend(),
    }[what]

    def marked() -> Any:
        return returned

    markcoroutinefunction(marked)
    with responding(loop_exchange(single)):
        callback, following = after_response(marked), after_response(nothing)
    await single.drain(DEADLINE)
    assert callback.state is (FAILED if what.startswith("broken") else SUCCEEDED)
    assert following.state is SUCCEEDED


# What predicates, consumers of the outcome and instruments raise.


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("error", ERRORS, ids=by_type)
@pytest.mark.parametrize("concurrent", [False, True])
async def test_a_predicate_that_raises(
    single: Runner, error: BaseException, lane: str, concurrent: bool
) -> None:
    """The callback is not called, and that is a failure."""
    ran: list[int] = []

    def predicate(outcome: Outcome) -> bool:
        raise error

    with responding(loop_exchange(single)):
        callback = registrar_of(lane, when=predicate, concurrent=concurrent)(
            on_lane(lane, ran.append), 1
        )
        following = registrar_of(lane)(on_lane(lane, int))
    await single.drain(DEADLINE)
    assert (callback.state, following.state) == (FAILED, SUCCEEDED)
    assert not ran


@pytest.mark.parametrize("lane", LANES)
async def test_a_consumer_of_the_outcome_that_raises(single: Runner, lane: str) -> None:
    seen: list[int | None] = []

    def consume(outcome: Outcome) -> None:
        seen.append(outcome.status)
        raise ValueError

    with responding(loop_exchange(single), 201):
        callbacks = [
            registrar_of(lane, takes_outcome=True)(on_lane(lane, consume)) for _ in range(3)
        ]
    await single.drain(DEADLINE)
    assert {callback.state for callback in callbacks} == {FAILED}
    assert seen == [201] * 3


class Ear:
    """An instrument that raises at one event, each time."""

    def __init__(self, at: str, error: BaseException) -> None:
        self.at = at
        self.error = error
        self.heard: list[str] = []

    def hear(self, event: str) -> None:
        self.heard.append(event)
        if event == self.at:
            raise self.error

    def registered(self, callback: Callback[Any]) -> None:
        self.hear("registered")

    def started(self, callback: Callback[Any]) -> None:
        self.hear("started")

    def ended(self, callback: Callback[Any]) -> None:
        self.hear("ended")


@pytest.mark.parametrize("at", ["registered", "started", "ended"])
@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), SystemExit(3), GeneratorExit(), StopIteration()],
    ids=by_type,
)
async def test_an_instrument_that_raises(
    make_runner: MakeRunner, at: str, error: BaseException
) -> None:
    """(Exceptions proper: test_isolated.) Nothing is lost, and others hear of it."""
    broken, other = Ear(at, error), Ear("never", error)
    runner = make_runner(limit=1, max_threads=1, instruments=[broken, other])
    with responding(loop_exchange(runner)):
        callbacks = [
            registrar_of(lane, concurrent=concurrent)(on_lane(lane, int))
            for lane in LANES
            for concurrent in (False, True)
        ]
    await runner.drain(DEADLINE)
    assert {callback.state for callback in callbacks} == {SUCCEEDED}
    assert broken.heard.count("ended") == other.heard.count("ended") == 6
    await free(runner)
    await runner.aclose()


def test_no_loop_at_all(make_runner: MakeRunner) -> None:
    """Every kind of error, without a loop."""
    runner = make_runner(limit=1, max_threads=1)
    exchange = thread_exchange(runner)

    def raises(error: BaseException) -> None:
        raise error

    async def araises(error: BaseException) -> None:
        raise error

    with responding(exchange):
        callbacks = [after_response(f, error) for error in ERRORS for f in (raises, araises)]
        last = after_response(int)
    assert exchange.idle_latch().wait_in_thread(DEADLINE)
    assert {callback.state for callback in callbacks} == {FAILED}
    assert last.state is SUCCEEDED
    asyncio.run(free(runner))
    asyncio.run(runner.aclose())
