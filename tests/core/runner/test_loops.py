"""One runner with several event loops, in turn and at once; several apps on one runner."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from async_after import Callback, CallbackState, Runner, aafter_response, after_response
from async_after.asgi import AfterResponseMiddleware

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
    thread_exchange,
)
from ..full import app, nothing, request, some_turns

SUCCEEDED, DROPPED = CallbackState.SUCCEEDED, CallbackState.DROPPED
concurrently = after_response.using(concurrent=True)


async def forever() -> None:
    await asyncio.Event().wait()


class Elsewhere:
    """An event loop in another thread, which does what it is told."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.get_loop()
            self.loop.run_forever()

    async def run(self, work: Awaitable[Any]) -> Any:
        async def do() -> Any:
            return await work

        future = asyncio.run_coroutine_threadsafe(do(), self.loop)
        return await asyncio.wait_for(asyncio.wrap_future(future), DEADLINE)

    async def respond(self, runner: Runner, *functions: Callable[[], Any]) -> list[Callback[Any]]:
        """A request over there that registers these."""

        async def here() -> list[Callback[Any]]:
            with responding(loop_exchange(runner, "/elsewhere")):
                return [after_response(function) for function in functions]

        callbacks: list[Callback[Any]] = await self.run(here())
        return callbacks

    async def end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        await gone({self.thread})


@asynccontextmanager
async def elsewhere() -> AsyncIterator[Elsewhere]:
    other = Elsewhere()
    try:
        yield other
    finally:
        await other.end()


class Server:
    """The lifespan of a wrapped app, as a server speaks it."""

    def __init__(self, wrapped: AfterResponseMiddleware) -> None:
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outbox: asyncio.Queue[Any] = asyncio.Queue()
        self._task = asyncio.ensure_future(
            wrapped({"type": "lifespan"}, self._inbox.get, self._outbox.put)
        )

    async def _say(self, event: str) -> None:
        await self._inbox.put({"type": f"lifespan.{event}"})
        async with asyncio.timeout(DEADLINE):
            assert (await self._outbox.get())["type"] == f"lifespan.{event}.complete"

    async def start(self) -> "Server":
        await self._say("startup")
        return self

    async def stop(self) -> None:
        await self._say("shutdown")
        await self._task


def wrapping(runner: Runner) -> AfterResponseMiddleware:
    return AfterResponseMiddleware(app, runner=runner)


# Several loops at once.


async def test_each_loop_has_its_lane(make_runner: MakeRunner) -> None:
    """Coroutine functions run on the loop of their request, under one limit for all."""
    runner = make_runner(limit=3, max_threads=3)
    now, peak = [0], [0]
    lock = threading.Lock()

    async def where() -> int:
        with lock:
            now[0] += 1
            peak[0] = max(peak[0], now[0])
        await some_turns()
        with lock:
            now[0] -= 1
        return threading.get_ident()

    others = [Elsewhere() for _ in range(4)]
    everywhere = await asyncio.gather(
        *(other.respond(runner, *[where] * 5, int) for other in others for _ in range(5))
    )
    with responding(loop_exchange(runner)):
        mine = [after_response(where) for _ in range(5)]
    await runner.drain(DEADLINE)
    for number, callbacks in enumerate(everywhere):
        *coroutines, plain = callbacks
        assert {c.result() for c in coroutines} == {others[number // 5].thread.ident}
        assert plain.result() == 0
    assert {callback.result() for callback in mine} == {threading.get_ident()}
    assert peak[0] <= 3
    assert runner.statistics().succeeded == 4 * 5 * 6 + 5
    await free(runner)
    for other in others:
        await other.end()


async def test_waiting_across_loops(runner: Runner) -> None:
    """For a callback, from another loop and from a callback there; and for all of them."""
    go_on = asyncio.Event()
    with responding(loop_exchange(runner)):
        callback = after_response(go_on.wait)
    async with elsewhere() as other:
        [waiter] = await other.respond(runner, callback.wait)
        waiting = asyncio.ensure_future(other.run(callback.wait(DEADLINE)))
        draining = asyncio.ensure_future(other.run(runner.drain(DEADLINE)))
        with pytest.raises(TimeoutError, match=r"not idle after 0\.01 s: 2 exchange"):
            await other.run(runner.drain(0.01))
        await some_turns()
        assert not waiting.done()
        assert not draining.done()
        go_on.set()
        assert await waiting is True
        await draining
        assert waiter.result() is True


async def test_a_loop_that_is_closed_takes_no_other_with_it(runner: Runner) -> None:
    go_on = asyncio.Event()
    with responding(loop_exchange(runner)):
        mine: list[Callback[Any]] = [after_response(go_on.wait), after_response(nothing)]
    async with elsewhere() as other:
        theirs = await other.respond(runner, forever, nothing)
    async with elsewhere() as another:  # whose first request looks after closed loops
        [last] = await another.respond(runner, nothing)
        await ended(last)
        assert {callback.state for callback in theirs} == {DROPPED}
        assert not mine[0].done()
        go_on.set()
        await runner.drain(DEADLINE)
        assert {callback.state for callback in [*mine, last]} == {SUCCEEDED}
    await free(runner)


# Shutdown with several loops.


async def test_aclose_waits_for_other_loops(make_runner: MakeRunner) -> None:
    runner = make_runner(wait_timeout=DEADLINE)
    let_go = threading.Event()

    async def waits() -> bool:
        return await asyncio.to_thread(let_go.wait, DEADLINE)

    async with elsewhere() as other:
        callbacks = await other.respond(runner, waits, nothing)
        closing = asyncio.ensure_future(runner.aclose())
        await some_turns()
        assert not closing.done()
        let_go.set()
        async with asyncio.timeout(DEADLINE):
            await closing
        assert {callback.state for callback in callbacks} == {SUCCEEDED}


async def test_aclose_cancels_on_other_loops(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """Over there, where their clean-up runs; each is named."""
    runner = make_runner(wait_timeout=0.0, close_timeout=DEADLINE)
    running = threading.Event()
    cleaned: list[int] = []

    async def victim() -> None:
        running.set()
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            cleaned.append(threading.get_ident())

    async with elsewhere() as other:
        callbacks = await other.respond(runner, victim, nothing)
        await started(running)
        async with asyncio.timeout(DEADLINE):
            await runner.aclose()
        assert cleaned == [other.thread.ident]
    assert {callback.state for callback in callbacks} == {DROPPED}
    assert len([r for r in records(caplog) if "was dropped" in r.getMessage()]) == 2
    await free(runner)


async def test_aclose_is_not_held_up_by_a_loop_that_is_blocked(make_runner: MakeRunner) -> None:
    runner = make_runner(wait_timeout=0.0, close_timeout=0.01)
    blocked, let_go, begin = threading.Event(), threading.Event(), threading.Event()

    async def blocks() -> None:
        await asyncio.to_thread(begin.wait, DEADLINE)
        blocked.set()
        let_go.wait(DEADLINE)

    async with elsewhere() as other:
        callbacks = await other.respond(runner, blocks, nothing)
        begin.set()
        await started(blocked)
        async with asyncio.timeout(DEADLINE):
            await runner.aclose()
        assert not let_go.is_set()
        assert {callback.state for callback in callbacks} == {DROPPED}
        let_go.set()
    await free(runner)


async def test_aclose_that_is_cancelled(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """By a server that has lost patience: what is left is dropped and named at once."""
    runner = make_runner(wait_timeout=DEADLINE, close_timeout=DEADLINE)
    running, let_go = threading.Event(), threading.Event()

    def plain() -> None:
        running.set()
        let_go.wait(DEADLINE)

    with responding(loop_exchange(runner)):
        callbacks = [after_response(plain), after_response(nothing)]
    with responding(loop_exchange(runner)):
        callbacks.append(after_response(forever))
    with entered(loop_exchange(runner)):
        callbacks.append(after_response(nothing))
    await started(running)
    closing = asyncio.ensure_future(runner.aclose())
    await some_turns()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert {callback.state for callback in callbacks} == {DROPPED}
    messages = [record.getMessage() for record in records(caplog)]
    assert len([message for message in messages if "was dropped" in message]) == 4
    assert messages[-1].startswith("shutdown: 4 callback(s) were lost")
    let_go.set()
    await free(runner)


async def test_aclose_twice_at_once(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """From two loops: both end, and nothing is lost or named twice."""
    runner = make_runner(wait_timeout=0.01, close_timeout=DEADLINE)
    with responding(loop_exchange(runner)):
        callback = after_response(forever)
    async with elsewhere() as other, asyncio.timeout(DEADLINE):
        await asyncio.gather(runner.aclose(), runner.aclose(), other.run(runner.aclose()))
    assert callback.state is DROPPED
    assert len([r for r in records(caplog) if "was dropped" in r.getMessage()]) == 1
    assert runner.statistics().dropped == 1


async def test_drain_while_it_closes(make_runner: MakeRunner) -> None:
    runner = make_runner(wait_timeout=DEADLINE)
    go_on = asyncio.Event()
    with responding(loop_exchange(runner)):
        callback = after_response(go_on.wait)
    closing = asyncio.ensure_future(runner.aclose())
    draining = [asyncio.ensure_future(runner.drain(DEADLINE)) for _ in range(3)]
    await some_turns()
    draining.pop().cancel()
    go_on.set()
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(closing, *draining)
    assert callback.state is SUCCEEDED


# Lifespans.


def test_three_lifespans_each_in_a_new_loop(make_runner: MakeRunner) -> None:
    """As test clients do it: one wrapper, one runner, callbacks of each kind."""
    runner = make_runner()
    before = own_threads()
    wrapped = wrapping(runner)
    callbacks: list[Callback[Any]] = []

    async def view() -> None:
        callbacks.append(after_response(nothing))
        callbacks.append(await aafter_response(int))
        callbacks.append(after_response.using(timeout=DEADLINE)(int))
        callbacks.append(after_response.using(lane="background")(nothing))
        callbacks.append(concurrently(asyncio.sleep, 0.01))

    async def life() -> None:
        server = await Server(wrapped).start()
        await request(wrapped, view)
        await server.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await gone(own_threads() - before)

    for number in range(1, 4):
        asyncio.run(life())
        assert [c.state for c in callbacks] == [SUCCEEDED] * 5 * number
    asyncio.run(free(runner))
    assert not runner._dispatchers._apps


async def test_only_the_last_of_several_apps_closes_it(make_runner: MakeRunner) -> None:
    runner = make_runner()
    wrapped = [wrapping(runner) for _ in range(3)]
    servers = [await Server(one).start() for one in wrapped]
    go_on = asyncio.Event()
    callbacks: list[Callback[Any]] = []

    async def view() -> None:
        callbacks.append(after_response(go_on.wait))

    await request(wrapped[0], view)
    async with asyncio.timeout(DEADLINE):
        await servers[0].stop()
        await servers[2].stop()
    await request(wrapped[1], view)
    last = asyncio.ensure_future(servers[1].stop())
    await some_turns()
    assert not last.done(), "it waits for the callbacks of all"
    go_on.set()
    await last
    assert {callback.state for callback in callbacks} == {SUCCEEDED}


@pytest.mark.parametrize("where", ["same loop", "other loop"])
async def test_a_startup_while_it_closes(make_runner: MakeRunner, where: str) -> None:
    """The new app's callbacks are neither refused nor cut by the end of the old one."""
    runner = make_runner(wait_timeout=DEADLINE)
    old, new = wrapping(runner), wrapping(runner)
    go_on, let_go = asyncio.Event(), threading.Event()
    callbacks: list[Callback[Any]] = []

    async def old_view() -> None:
        callbacks.append(after_response(go_on.wait))

    async def new_view() -> None:
        callbacks.append(after_response.using(timeout=DEADLINE)(let_go.wait, DEADLINE))
        callbacks.append(after_response(nothing))

    server = await Server(old).start()
    await request(old, old_view)
    stopping = asyncio.ensure_future(server.stop())
    await some_turns()
    async with elsewhere() as other:

        async def begin() -> Server:
            successor = await Server(new).start()
            await request(new, new_view)
            return successor

        successor = await (begin() if where == "same loop" else other.run(begin()))
        go_on.set()
        async with asyncio.timeout(DEADLINE):
            await stopping
        again = request(new, new_view)
        await (again if where == "same loop" else other.run(again))
        let_go.set()
        await runner.drain(DEADLINE)
        assert {callback.state for callback in callbacks} == {SUCCEEDED}
        stop = successor.stop()
        await (stop if where == "same loop" else other.run(stop))
    await free(runner)


async def test_a_startup_while_it_gives_up(make_runner: MakeRunner) -> None:
    """The old app's callbacks have not ended in time: only those are lost."""
    runner = make_runner(wait_timeout=0.05, close_timeout=DEADLINE)
    old, new = wrapping(runner), wrapping(runner)
    cancelled, let_go = asyncio.Event(), asyncio.Event()
    callbacks: list[Callback[Any]] = []

    async def clings() -> None:
        try:
            await forever()
        finally:
            cancelled.set()
            await let_go.wait()

    async def old_view() -> None:
        callbacks.append(after_response(clings))

    async def new_view() -> None:
        callbacks.append(after_response(let_go.wait))
        callbacks.append(after_response(int))

    server = await Server(old).start()
    await request(old, old_view)
    stopping = asyncio.ensure_future(server.stop())
    await some_turns()
    successor = await Server(new).start()
    await request(new, new_view)
    await started(cancelled)
    await request(new, new_view)
    let_go.set()
    async with asyncio.timeout(DEADLINE):
        await stopping
        await runner.drain()
    assert [callback.state for callback in callbacks] == [DROPPED] + [SUCCEEDED] * 4
    await successor.stop()
    await free(runner)


async def test_threads_without_a_loop_go_on_after_a_close(make_runner: MakeRunner) -> None:
    """A new exchange of theirs is a sign of life; one from before is closed for good."""
    runner = make_runner()
    before = thread_exchange(runner)
    await runner.aclose()
    with responding(thread_exchange(runner)):
        callbacks: list[Callback[Any]] = [after_response(int), after_response(nothing)]
    await runner.drain(DEADLINE)
    assert {callback.state for callback in callbacks} == {SUCCEEDED}
    with entered(before):
        after_response(int)
    finish(before)
    await runner.drain(DEADLINE)
    await runner.aclose()


async def test_no_time_to_close(make_runner: MakeRunner) -> None:
    """Both timeouts are zero: what runs is cancelled all the same, and its slot is free again."""
    runner = make_runner(limit=1, wait_timeout=0, close_timeout=0)
    running, cleaned = asyncio.Event(), asyncio.Event()

    async def victim() -> None:
        running.set()
        try:
            await forever()
        finally:
            cleaned.set()

    with responding(loop_exchange(runner)):
        callback = after_response(victim)
    await started(running)
    await runner.aclose()
    assert callback.state is DROPPED
    await started(cleaned)
    await free(runner)
