"""Promise 16, in_context: whatever is said of a callback is said inside its context, in each lane
and however it ends; and whatever we start carries nobody's."""

import asyncio
import logging
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any

import pytest

from async_after import Callback, Runner, after_response, get_runner
from async_after._core.capacity import reports
from async_after._core.conf import Bounds
from async_after._core.exchange import Exchange

from ..first_hour import LANES
from .conftest import (
    DEADLINE,
    MakeRunner,
    entered,
    finish,
    free,
    loop_exchange,
    responding,
    started,
    thread_exchange,
)
from .full import full, nothing
from .lanes.test_kinds import run_to_its_end

WAYS = [
    (lane, is_async)
    for lane in LANES
    for is_async in (False, True)
    if is_async is {"threads": False, "loop": True, "background": True}.get(lane, is_async)
]
NOBODY = "nobody's"
request_id: ContextVar[str] = ContextVar("request_id", default=NOBODY)


class Heard(logging.Filter):
    """All that is said of callbacks, and whose context it is said in: an instrument, a filter of
    the log, and what makes the records."""

    def __init__(self) -> None:
        super().__init__()
        self.said: defaultdict[str | None, list[tuple[str, str]]] = defaultdict(list)

    def note(self, name: str | None, what: str) -> None:
        self.said[name].append((what, request_id.get()))

    def registered(self, callback: Callback[Any]) -> None:
        self.note(callback.name, "registered")

    def started(self, callback: Callback[Any]) -> None:
        self.note(callback.name, "started")

    def ended(self, callback: Callback[Any]) -> None:
        self.note(callback.name, "ended")

    def filter(self, record: logging.LogRecord) -> bool:
        name = getattr(record, "callback", None)
        self.note(name, record.__dict__["event"])
        assert record.__dict__["made_in"] == request_id.get()
        return True

    def check(self, name: str, *whats: str) -> None:
        """These were said of it, and nothing else, in its own context."""
        assert {what for what, _ in self.said[name]} == {*whats}, self.said[name]
        assert {whose for _, whose in self.said[name]} == {f"of {name}"}, self.said[name]


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[Heard]:
    caplog.set_level(logging.DEBUG, "async_after")
    found, logger = Heard(), logging.getLogger("async_after")
    make = logging.getLogRecordFactory()

    def make_inside(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.made_in = request_id.get()
        return record

    logging.setLogRecordFactory(make_inside)
    logger.addFilter(found)
    runner = get_runner()
    bounds = runner.capacity._bounds
    runner.capacity.follow(Bounds(instruments=[found]))  # for scopes
    yield found
    runner.capacity.follow(bounds)
    logger.removeFilter(found)
    logging.setLogRecordFactory(make)


@pytest.fixture
def make(make_runner: MakeRunner, heard: Heard) -> MakeRunner:
    return lambda **bounds: make_runner(instruments=[heard], **bounds)


def register(name: str, function: Callable[..., Any], *args: Any, **options: Any) -> Callback[Any]:
    """In a context that is over, as that of a request whose middleware resets its id."""

    def inside() -> Callback[Any]:
        request_id.set(f"of {name}")
        registered: Callback[Any] = after_response.using(name=name, **options)(function, *args)
        return registered

    return copy_context().run(inside)


async def forever() -> None:
    await asyncio.Event().wait()


# However it ends, in each lane.


def fails() -> None:
    raise LookupError


async def afails() -> None:
    await asyncio.sleep(0)
    fails()


def takes_long() -> None:
    time.sleep(0.03)


def exits() -> None:
    sys.exit("no")


async def aexits() -> None:
    await asyncio.sleep(0)
    exits()


def no(outcome: object) -> bool:
    assert request_id.get() == "of mine", "a predicate is asked in the callback's context"
    return False


def wrong(outcome: object) -> bool:
    raise LookupError(request_id.get())


# The plain function, the coroutine function, the options, and what is said of it besides the rest.
ENDS: dict[str, tuple[Callable[[], Any], Callable[[], Any], dict[str, Any], set[str]]] = {
    "succeeds": (int, nothing, {}, {"started"}),
    "fails": (fails, afails, {}, {"started", "callback_failed"}),
    "exits": (exits, aexits, {}, {"started", "callback_failed"}),
    "times out": (takes_long, forever, {"timeout": 0.01}, {"started", "callback_timed_out"}),
    "is not wanted": (int, nothing, {"when": "error"}, {"callback_ended"}),
    "is not wanted by a predicate": (int, nothing, {"when": no}, {"started", "callback_ended"}),
    "has a predicate that fails": (int, nothing, {"when": wrong}, {"started", "callback_failed"}),
}


@pytest.mark.parametrize(("lane", "is_async"), WAYS)
@pytest.mark.parametrize("end", ENDS)
def test_in_context(make: MakeRunner, heard: Heard, lane: str, is_async: bool, end: str) -> None:
    plain, coroutine, options, said = ENDS[end]
    if lane in ("loop", "threads", "background"):
        options = options | {"lane": lane}
    function = coroutine if is_async else plain
    if lane == "inline under WSGI" and end == "exits" and not is_async:
        pytest.skip("it ends the server's thread, too")
    if "scope" in lane and end == "times out" and not is_async:
        said = {"started"}  # nobody can give it up there

    def both() -> Callback[Any]:
        callback = register("mine", function, **options)
        register("other", int)
        return callback

    run_to_its_end(lane, both, make)
    heard.check("mine", "registered", "ended", *said)
    heard.check("other", "registered", "started", "ended")


def test_every_lane_is_among_them() -> None:
    assert {lane for lane, _ in WAYS} == {*LANES}


# What somebody else does to it, in a context of his own.


def elsewhere(function: Callable[[], Any]) -> Any:
    """In another thread, and in a stranger's context."""
    found: list[Any] = []

    def run() -> None:
        request_id.set("a stranger's")
        found.append(function())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(DEADLINE)
    return found[0]


EXCHANGES = pytest.mark.parametrize("make_exchange", [loop_exchange, thread_exchange])
MakeExchange = Callable[[Runner], Exchange]
LOST = ("registered", "ended", "callback_dropped")


@EXCHANGES
async def test_cancelled(make: MakeRunner, heard: Heard, make_exchange: MakeExchange) -> None:
    """Pending and running, by another thread; and replaced, by who registers the same key."""
    runner, running = make(limit=1), threading.Event()

    async def runs() -> None:
        running.set()
        await forever()

    with responding(make_exchange(runner)):
        first = register("running", runs)
        second = register("pending", int)
        register("replaced", int, key=1)
        register("successor", int, key=1)
    await started(running)
    assert elsewhere(second.cancel)
    assert not elsewhere(first.cancel)
    await runner.drain(DEADLINE)
    heard.check("running", "registered", "started", "ended", "callback_ended")
    heard.check("pending", "registered", "ended", "callback_ended")
    heard.check("replaced", "registered", "ended", "callback_ended")
    heard.check("successor", "registered", "started", "ended")


@EXCHANGES
async def test_dropped_at_shutdown(
    make: MakeRunner, heard: Heard, make_exchange: MakeExchange
) -> None:
    """By who closes: what runs in each lane, what waits, and what comes later."""
    runner = make(limit=3, wait_timeout=0.05, close_timeout=0.05)
    running, let_go = [threading.Event() for _ in range(3)], threading.Event()

    async def runs(number: int) -> None:
        running[number].set()
        await forever()

    def blocks() -> None:
        running[2].set()
        let_go.wait(DEADLINE)

    exchange = make_exchange(runner)
    with responding(exchange):
        register("async", runs, 0)
        register("behind", int)
        register("background", runs, 1, lane="background", concurrent=True)
        register("plain", blocks, concurrent=True)
    with responding(make_exchange(runner)):
        register("in line", int, concurrent=True)
    with entered(make_exchange(runner)):
        register("open", int)
    for event in running:
        await started(event)
    request_id.set("of the shutdown")
    await runner.aclose()
    with entered(exchange):
        register("late", int)
    let_go.set()
    for name in ("async", "background", "plain"):
        heard.check(name, *LOST, "started")
    for name in ("behind", "in line", "open", "late"):
        heard.check(name, *LOST)
    await free(runner)


async def test_dropped_for_want_of_room(make: MakeRunner, heard: Heard) -> None:
    """By another request, which has ended in this moment; those that got no line of their own
    are named in nobody's context."""
    runner = make(limit=1, pending_limit=1, overflow="drop")
    async with full(runner):
        for number in range(3):
            with responding(loop_exchange(runner)):
                register(f"{number}", int)
        request_id.set("a stranger's")
        heard.check("0", *LOST)
        heard.check("1", "registered", "ended")
        heard.check("2", "registered", "ended")
        runner.capacity.backpressure.losses.say_rest()
    assert ("callbacks_dropped", NOBODY) in heard.said[None]


def test_its_loop_is_closed(make: MakeRunner, heard: Heard) -> None:
    runner = make()

    async def serve() -> None:
        with responding(loop_exchange(runner)):
            register("running", forever)
            register("behind", nothing)
        await asyncio.sleep(0)

    asyncio.run(serve())
    request_id.set("a stranger's")
    asyncio.run(runner.drain(DEADLINE))
    heard.check("running", *LOST, "started")
    heard.check("behind", *LOST)


async def test_it_cannot_be_started(
    make: MakeRunner, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = make()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with responding(loop_exchange(runner)):
        register("plain", int)
        register("background", nothing, lane="background")
    await runner.drain(DEADLINE)
    for name in ("plain", "background"):
        heard.check(name, *LOST, "started", "callback_not_started")


# What is said of one that runs.


@pytest.mark.parametrize("lane", ["loop", "background"])
async def test_it_blocks_its_loop(make: MakeRunner, heard: Heard, lane: str) -> None:
    runner = make(slow_step=0.001)

    async def blocks() -> None:
        time.sleep(0.01)  # noqa: ASYNC251
        await asyncio.sleep(0)

    with responding((loop_exchange if lane == "loop" else thread_exchange)(runner)):
        register("mine", blocks)
    await runner.drain(DEADLINE)
    heard.check("mine", "registered", "started", "ended", "callback_blocked_loop")


@EXCHANGES
async def test_it_runs_for_long(
    make: MakeRunner, heard: Heard, make_exchange: MakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "LONG", 0.02)
    runner, let_go = make(), threading.Event()

    async def waits() -> None:
        await asyncio.to_thread(let_go.wait, DEADLINE)

    with responding(make_exchange(runner)):
        register("async", waits, concurrent=True)
        register("plain", let_go.wait, DEADLINE, concurrent=True)
    async with asyncio.timeout(DEADLINE):
        while not {"callback_long_running"} <= {what for what, _ in heard.said["plain"][2:]}:
            await asyncio.sleep(0.001)
    let_go.set()
    await runner.drain(DEADLINE)
    for name in ("async", "plain"):
        heard.check(name, "registered", "started", "ended", "callback_long_running")


async def test_it_is_named_before_it_may_be_lost(make: MakeRunner, heard: Heard) -> None:
    runner, running, go_on = make(limit=1), asyncio.Event(), asyncio.Event()

    async def runs() -> None:
        request_id.set("changed by itself")
        running.set()
        await go_on.wait()

    with responding(loop_exchange(runner)):
        register("running", runs)
        register("pending", int)
    await started(running)
    runner.capacity.reports.unsettled("it may be lost")
    assert heard.said["running"][-1] == ("callback_unsettled", "changed by itself")
    assert heard.said["pending"][-1] == ("callback_unsettled", "of pending")
    go_on.set()
    await runner.drain(DEADLINE)
    assert heard.said["running"][-1] == ("ended", "changed by itself")


class Broken:
    def registered(self, callback: Callback[Any]) -> None:
        raise LookupError

    started = ended = registered


@EXCHANGES
async def test_an_instrument_that_fails(
    make_runner: MakeRunner, heard: Heard, make_exchange: MakeExchange
) -> None:
    runner = make_runner(instruments=[Broken(), heard])
    with responding(make_exchange(runner)):
        register("plain", int)
        register("async", nothing)
    await runner.drain(DEADLINE)
    for name in ("plain", "async"):
        heard.check(name, "registered", "started", "ended", "instrument_failed")
        assert len(heard.said[name]) == 6


async def test_registered_in_the_middle_of_a_change(make: MakeRunner, heard: Heard) -> None:
    """By a destructor, say: it is put into the books later, in the context of whoever does it."""
    runner = make()
    exchange, gate = loop_exchange(runner), runner.capacity.ledger.gate
    with entered(exchange):
        with gate.lock:
            gate.is_busy = True
            register("mine", int)
            gate.is_busy = False
        request_id.set("a stranger's")
        gate.catch_up()
    finish(exchange)
    await runner.drain(DEADLINE)
    heard.check("mine", "registered", "started", "ended")
