"""Promise 16, in_context: no thread, timer or loop of ours carries the context of the request in
which it happened to be started.

By default a thread begins in an empty context. Some libraries let it inherit what is current
where it is started, by a patch of ``Thread.start``; free-threaded Python 3.14 does so itself.
"""

import asyncio
import sys
import threading
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from types import FrameType
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from async_after import Callback, Runner, after_response, exchange_scope
from async_after._core.delivery import Delivery
from async_after.asgi import AfterResponseMiddleware as ASGIWrapper
from async_after.testing import capture_after_response
from async_after.wsgi import AfterResponseMiddleware as WSGIWrapper

from ..wsgi.wsgi_client import environ_for
from .conftest import (
    DEADLINE,
    MakeRunner,
    entered,
    finish,
    loop_exchange,
    responding,
    started,
    thread_exchange,
)
from .delivery.test_delivery import acknowledged, connected
from .full import nothing
from .runtime.frozen import frozen

NOBODY, STRANGER = "nobody's", "a stranger's"
request_id: ContextVar[str] = ContextVar("request_id", default=NOBODY)


def _is_ours(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_globals["__name__"].startswith("async_after.")


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The threads that we start from here on, with the contexts they begin in; all threads
    inherit. The test itself is a stranger."""
    found: list[tuple[str, str]] = []
    start = threading.Thread.start

    def inherit(thread: threading.Thread) -> None:
        if _is_ours(sys._getframe(1)):
            kind = thread.name.rstrip("0123456789 ") if "async_after" in thread.name else "unnamed"
            found.append((kind, request_id.get()))
        run, context = thread.run, copy_context()
        thread.run = lambda: context.run(run)  # type: ignore[method-assign]
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", inherit)
    return found


def as_stranger(function: Callable[..., Any], *args: Any) -> Any:
    context = copy_context()
    context.run(request_id.set, STRANGER)
    return context.run(function, *args)


def look() -> str:
    return request_id.get()


async def alook() -> str:
    await asyncio.sleep(0)
    return look()


def runs_a_loop() -> str:
    return asyncio.run(sync_to_async(look)())


# What starts them: the function, the kind of thread, and what it needs.


async def _on(
    make: Callable[[Runner], Any], runner: Runner, *functions: Any, **options: Any
) -> Any:
    def respond() -> list[Callback[Any]]:
        with responding(make(runner)):
            return [after_response.using(**options)(function) for function in functions]

    callbacks = as_stranger(respond)
    await runner.drain(DEADLINE)
    # They themselves have what was current where they were registered.
    assert {callback.result() for callback in callbacks} <= {STRANGER, None}


async def starts_a_worker(runner: Runner) -> None:
    await _on(loop_exchange, runner, look)


async def starts_a_worker_for_a_call(runner: Runner) -> None:
    await _on(loop_exchange, runner, sync_to_async(look))


async def starts_the_background_loop(runner: Runner) -> None:
    await _on(loop_exchange, runner, alook, lane="background")


async def starts_the_background_loop_for_a_thread(runner: Runner) -> None:
    await _on(thread_exchange, runner, alook)


async def starts_the_timers(runner: Runner) -> None:
    await _on(loop_exchange, runner, look, timeout=DEADLINE)


async def starts_its_own_thread(runner: Runner) -> None:
    await _on(loop_exchange, runner, runs_a_loop)


async def gives_way(runner: Runner) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        after_response(look)
        start_response("200 OK", [])
        return []

    def serve() -> None:
        body: Any = WSGIWrapper(app, runner=runner)(environ_for(), lambda status, headers: print)
        body.close()

    as_stranger(serve)
    await runner.drain(DEADLINE)


async def gives_way_on_a_frozen_loop(runner: Runner) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        after_response(look)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def serve() -> None:
        request_id.set(STRANGER)
        scope = {"type": "http", "method": "GET", "path": "/"}
        await ASGIWrapper(app, runner=runner, hold=True)(scope, _never, _accept)

    with frozen("ahead"):
        await asyncio.create_task(serve())


async def opens_a_scope(runner: Runner) -> None:
    """Where a loop runs, so that a coroutine function needs another thread."""

    def scope() -> Callback[str]:
        with exchange_scope():
            return after_response(alook)

    assert as_stranger(scope).result() == STRANGER


async def captures(runner: Runner) -> None:
    def capture() -> Callback[str]:
        exchange = loop_exchange(runner)
        with capture_after_response(execute=True):
            with entered(exchange):
                callback = after_response(alook)
            exchange.end()
        return callback

    assert as_stranger(capture).result() == STRANGER


async def _accept(message: Any) -> None: ...


async def _never() -> Any:
    await asyncio.Event().wait()


STARTS: dict[Callable[[Runner], Any], str] = {
    starts_a_worker: "async_after worker",
    starts_a_worker_for_a_call: "async_after worker",
    starts_the_background_loop: "async_after background loop",
    starts_the_background_loop_for_a_thread: "async_after background loop",
    starts_the_timers: "async_after timers",
    starts_its_own_thread: "async_after own thread",
    gives_way: "async_after timers",
    gives_way_on_a_frozen_loop: "async_after timers",
    opens_a_scope: "unnamed",
    captures: "unnamed",
}


@pytest.mark.parametrize("story", STARTS, ids=lambda story: story.__name__)
async def test_a_thread(
    make_runner: MakeRunner, begun: list[tuple[str, str]], story: Callable[[Runner], Any]
) -> None:
    await story(make_runner())
    assert STARTS[story] in {kind for kind, _ in begun}
    assert {whose for _, whose in begun} == {NOBODY}, begun


def test_no_other_module_starts_threads() -> None:
    """Each of ours is among the stories above."""
    assert {kind for kind in STARTS.values() if kind != "unnamed"} == {
        *("async_after worker", "async_after timers"),
        *("async_after background loop", "async_after own thread"),
    }


# What others do there is nobody's, too.


async def test_what_is_done_there(runner: Runner, begun: list[tuple[str, str]]) -> None:
    """Behind, and before, callbacks: in a worker, by the timers, on the background loop."""
    seen: dict[str, str] = {}
    over = [threading.Event() for _ in range(4)]

    def note(where: int) -> None:
        seen[str(where)] = look()
        over[where].set()

    def use() -> None:
        with responding(thread_exchange(runner)):
            registrar: Any = after_response.using(timeout=DEADLINE)
            registrar(look)
            after_response(alook)
        runner.capacity.pool.submit(lambda: note(0))
        runner.capacity.timers.call_later(0, lambda: note(1))
        runner.capacity.starts.call_later(0, lambda: note(2))

    as_stranger(use)
    await runner.drain(DEADLINE)
    lane = runner.capacity.background._lane
    assert lane is not None
    Context().run(lane.loop.call_soon_threadsafe, note, 3)
    for event in over:
        await started(event)
    assert seen == dict.fromkeys("0123", NOBODY)


async def test_timers_and_tasks_of_a_loop(runner: Runner) -> None:
    """The loop keeps a timer, with its context, until it is due: a minute for some of ours."""
    loop: Any = asyncio.get_running_loop()
    dispatcher, go_on, before = runner.dispatcher(loop), asyncio.Event(), {*loop._scheduled}
    gives_way = loop_exchange(runner)

    def respond() -> Callback[Any]:
        with responding(loop_exchange(runner)):
            callback = after_response.using(timeout=DEADLINE, name="ours")(go_on.wait)
        exchange = connected(dispatcher, Delivery.HANDED)
        with entered(exchange):
            acknowledged.using(delivery_timeout=DEADLINE)(nothing)
        finish(exchange)
        with entered(gives_way):
            after_response(nothing)
        gives_way.complete()
        gives_way.end()
        dispatcher.give_way(gives_way, DEADLINE)
        return callback

    callback = as_stranger(respond)
    draining = as_stranger(asyncio.ensure_future, runner.drain(DEADLINE))
    waiting = as_stranger(asyncio.ensure_future, callback.wait(DEADLINE))
    timers: set[Any] = set()
    async with asyncio.timeout(DEADLINE):
        # A callback's timeout, a client's, a response's end, long ones, and two that wait.
        while len(timers) < 6:
            await asyncio.sleep(0)
            mine = {each for each in loop._scheduled if "Timeout._on_timeout" in repr(each)}
            timers = {*loop._scheduled} - before - mine
    assert {handle._context.get(request_id, NOBODY) for handle in timers} == {NOBODY}
    if sys.version_info >= (3, 12):
        [task] = [task for task in asyncio.all_tasks() if task.get_name() == "ours"]
        assert task.get_context().get(request_id, NOBODY) == NOBODY
    go_on.set()
    assert await waiting is True
    dispatcher._go_on(gives_way)
    dispatcher.deliveries.abandon()
    await draining
