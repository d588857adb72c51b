"""Views that wait for room in ``aafter_response``: each gets a place of its own."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from async_after import Callback, Runner, aafter_response
from async_after._core.capacity import overflow
from async_after.asgi import AfterResponseMiddleware

from ..conftest import DEADLINE, MakeRunner, finish, loop_exchange
from ..conftest import entered as in_exchange

VIEWS, LIMIT = 300, 10


class Most:
    """An instrument: how many have waited at most."""

    def __init__(self) -> None:
        self.runner: Runner | None = None
        self.waiting = 0

    def registered(self, callback: Callback[Any]) -> None:
        assert self.runner is not None
        self.waiting = max(self.waiting, self.runner.statistics().waiting)

    started = ended = registered


async def in_process(runner: Runner, view: Callable[[], Awaitable[object]]) -> None:
    exchange = loop_exchange(runner)
    with in_exchange(exchange):
        await view()
    finish(exchange)


async def behind_the_wrapper(runner: Runner, view: Callable[[], Awaitable[object]]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await view()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None: ...

    scope = {"type": "http", "method": "GET", "path": "/"}
    await AfterResponseMiddleware(app, runner=runner, hold=False)(scope, receive, send)


WAYS = [in_process, behind_the_wrapper]


@pytest.fixture
def small(make_runner: MakeRunner) -> Runner:
    most = Most()
    most.runner = make_runner(limit=1, max_threads=1, pending_limit=LIMIT, instruments=[most])
    return most.runner


def most_waiting(runner: Runner) -> int:
    [most] = runner.capacity._bounds.instruments
    assert isinstance(most, Most)
    return most.waiting


async def nothing() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("works", [0, 1, 5], ids=lambda turns: f"{turns} turns before")
@pytest.mark.parametrize("each", [1, 3], ids=lambda count: f"{count} each")
@pytest.mark.parametrize("function", [nothing, int], ids=["coroutine", "plain"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_herd_finds_as_many_places_as_there_are(
    small: Runner, way: Any, function: Callable[[], object], each: int, works: int
) -> None:
    """Room that all see at once is not there for all of them."""

    async def view() -> None:
        for _ in range(works):
            await asyncio.sleep(0)
        for _ in range(each):
            await aafter_response(function)

    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*[way(small, view) for _ in range(VIEWS // each)])
        await small.drain()
    assert small.statistics().succeeded == VIEWS // each * each
    assert most_waiting(small) <= (LIMIT + 2) * each
    assert (small.capacity.ledger.promised, small.capacity.ledger.room) == (0, None)


async def test_one_exchange_never_waits_for_its_own(small: Runner) -> None:
    async def view() -> None:
        for _ in range(5 * LIMIT):
            await aafter_response(nothing)

    async with asyncio.timeout(DEADLINE):
        await in_process(small, view)
        await small.drain()
    assert small.statistics().succeeded == 5 * LIMIT


@pytest.mark.parametrize("how", ["ends", "cancels its callback", "fails"])
async def test_a_place_that_is_free_again_is_for_the_next(
    small: Runner, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing begins: all others go on with their views."""
    monkeypatch.setattr(overflow, "STALLED", 10 * DEADLINE)
    registered: list[Callback[Any]] = []
    exchanges = [loop_exchange(small) for _ in range(LIMIT + 1)]
    for exchange in exchanges:
        with in_exchange(exchange):
            registered.append(await aafter_response(nothing))
    next_one = asyncio.ensure_future(in_process(small, functools.partial(aafter_response, nothing)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not next_one.done()
    if how == "cancels its callback":
        assert registered[0].cancel()
    else:
        finish(exchanges[0], error=KeyError() if how == "fails" else None)
    async with asyncio.timeout(DEADLINE):
        await next_one
    for exchange in exchanges:
        finish(exchange)
    await small.drain(DEADLINE)
    assert small.capacity.ledger.promised == 0


@pytest.mark.parametrize("when", ["in the line", "with a place"])
async def test_a_view_that_is_cancelled_keeps_no_place(small: Runner, when: str) -> None:
    exchanges = [loop_exchange(small) for _ in range(LIMIT + 1)]
    for exchange in exchanges:
        with in_exchange(exchange):
            await aafter_response(nothing)
    waiting = [
        asyncio.ensure_future(in_process(small, functools.partial(aafter_response, nothing)))
        for _ in range(2)
    ]
    for _ in range(10):
        await asyncio.sleep(0)
    if when == "with a place":
        finish(exchanges[0])
        while not small.capacity.ledger.promised > LIMIT:
            await asyncio.sleep(0)
    waiting[0].cancel()
    for exchange in exchanges:
        finish(exchange)
    async with asyncio.timeout(DEADLINE):
        await asyncio.wait(waiting)
        await small.drain()
    assert not waiting[1].cancelled()
    assert small.capacity.ledger.promised == 0
    assert small.capacity.ledger.room is None
