"""The ASGI wrapper and lifespan, in process."""

import asyncio

import pytest

from async_after import Callback, CallbackState, Runner, after_response
from async_after.asgi import AfterResponseMiddleware

from .inprocess import (
    DEADLINE,
    App,
    Lifespan,
    Receive,
    Scope,
    Send,
    StandIn,
    body,
    sending,
    start,
    until,
)


class Site:
    """An app whose callbacks wait for a gate; ``speak`` is its lifespan."""

    def __init__(self, speak: App) -> None:
        self.speak = speak
        self.gate = asyncio.Event()
        self.started = asyncio.Event()
        self.events: list[str] = []
        self.handles: list[Callback[None]] = []

    async def callback(self) -> None:
        self.started.set()
        await self.gate.wait()
        self.events.append("callback")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.speak(scope, receive, send)
            return
        self.handles.append(after_response(self.callback))
        await sending(start(), body())(scope, receive, send)


async def returns(scope: Scope, receive: Receive, send: Send) -> None: ...


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")


async def listens_only(scope: Scope, receive: Receive, send: Send) -> None:
    """Neither speaks nor refuses."""
    assert await receive() == {"type": "lifespan.startup"}


async def starts_only(scope: Scope, receive: Receive, send: Send) -> None:
    """Does not wait for the shutdown."""
    await receive()
    await send({"type": "lifespan.startup.complete"})


async def speaks(scope: Scope, receive: Receive, send: Send) -> None:
    assert await receive() == {"type": "lifespan.startup"}
    await send({"type": "lifespan.startup.complete"})
    assert await receive() == {"type": "lifespan.shutdown"}
    await send({"type": "lifespan.shutdown.complete"})


ALL = pytest.mark.parametrize("speak", [returns, raises, listens_only, starts_only, speaks])


@ALL
async def test_answered_once_whatever_the_app_does(speak: App) -> None:
    lifespan = Lifespan(AfterResponseMiddleware(speak, runner=Runner()))
    assert await lifespan.startup() == "lifespan.startup.complete"
    assert await lifespan.shutdown() == "lifespan.shutdown.complete"
    await lifespan.end()
    assert await lifespan.answer() is None


@ALL
async def test_drained_at_shutdown(speak: App) -> None:
    site, runner = Site(speak), Runner()
    wrapped = AfterResponseMiddleware(site, runner=runner)
    lifespan = Lifespan(wrapped)
    await lifespan.startup()
    await StandIn().call(wrapped)
    await until(site.started)
    shutdown = asyncio.create_task(lifespan.shutdown())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not shutdown.done()
    site.gate.set()
    assert await shutdown == "lifespan.shutdown.complete"
    assert site.handles[0].state is CallbackState.SUCCEEDED
    await lifespan.end()


async def test_drained_before_the_shutdown_is_passed_on() -> None:
    """While what the app opened at its start is still open."""

    async def speak(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        site.events.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})

    site = Site(speak)
    wrapped = AfterResponseMiddleware(site, runner=Runner())
    lifespan = Lifespan(wrapped)
    await lifespan.startup()
    await StandIn().call(wrapped)
    asyncio.get_running_loop().call_soon(site.gate.set)
    await lifespan.shutdown()
    await lifespan.end()
    assert site.events == ["callback", "shutdown"]


async def test_registered_while_it_drains() -> None:
    ran: list[str] = []

    async def first() -> None:
        await asyncio.sleep(0.01)
        after_response(second)

    async def second() -> None:
        await asyncio.sleep(0.01)
        ran.append("second")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            after_response(first)
            await sending(start(), body())(scope, receive, send)

    wrapped = AfterResponseMiddleware(app, runner=Runner())
    lifespan = Lifespan(wrapped)
    await lifespan.startup()
    await StandIn().call(wrapped)
    await lifespan.shutdown()
    assert ran == ["second"]
    await lifespan.end()


async def test_the_shutdown_ends_in_time(caplog: pytest.LogCaptureFixture) -> None:
    """Promise 10, drained: what must be given up is DROPPED, and logged by name."""
    site = Site(speaks)
    wrapped = AfterResponseMiddleware(site, runner=Runner(wait_timeout=0.05, close_timeout=0.05))
    lifespan = Lifespan(wrapped)
    await lifespan.startup()
    await StandIn().call(wrapped)
    await until(site.started)
    assert await lifespan.shutdown() == "lifespan.shutdown.complete"
    assert site.handles[0].state is CallbackState.DROPPED
    assert site.handles[0].name in caplog.text
    await lifespan.end()


@pytest.mark.parametrize("when", ["before its answer", "after startup", "at shutdown"])
async def test_an_app_that_raises_has_failed(when: str) -> None:
    error = RuntimeError(when)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if when == "before its answer":
            raise error
        await send({"type": "lifespan.startup.complete"})
        if when == "after startup":
            raise error
        await receive()
        raise error

    runner = Runner()
    lifespan = Lifespan(AfterResponseMiddleware(app, runner=runner))
    answer = await lifespan.startup()
    assert answer == (None if when == "before its answer" else "lifespan.startup.complete")
    if when == "at shutdown":
        assert await lifespan.shutdown() is None
    with pytest.raises(RuntimeError) as caught:
        await lifespan.end()
    assert caught.value is error


async def test_startup_failed_is_passed_on() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    lifespan = Lifespan(AfterResponseMiddleware(app, runner=Runner()))
    assert await lifespan.startup() == "lifespan.startup.failed"
    await lifespan.end()
    assert await lifespan.answer() is None


@pytest.mark.parametrize("ending", ["shutdown", "startup.failed", "cancelled"])
async def test_the_runner_closes_with_its_last_app(ending: str) -> None:
    """Callbacks of the one go on while only the other shuts down."""

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if ending == "startup.failed":
            await send({"type": "lifespan.startup.failed"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    runner = Runner()
    site = Site(speaks)
    wrapped = AfterResponseMiddleware(site, runner=runner)
    lifespan = Lifespan(wrapped)
    await lifespan.startup()
    await StandIn().call(wrapped)
    await until(site.started)
    # The gate is closed: would this one drain the runner, it would not end.
    second = Lifespan(AfterResponseMiddleware(other, runner=runner))
    await second.startup()
    if ending == "shutdown":
        assert await second.shutdown() == "lifespan.shutdown.complete"
    if ending == "cancelled":
        second.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second.end()
    else:
        await second.end()
    assert not site.handles[0].done()
    await StandIn().call(wrapped)  # still open
    site.gate.set()
    assert await lifespan.shutdown() == "lifespan.shutdown.complete"
    await lifespan.end()
    assert [handle.state for handle in site.handles] == [CallbackState.SUCCEEDED] * 2


@pytest.mark.parametrize("speak", [raises, speaks])
def test_three_lives_in_one_process(speak: App) -> None:
    """As test clients do: the same app and runner, each time on a new loop."""
    ran: list[str] = []

    async def asynchronous() -> None:
        await asyncio.sleep(0.01)
        ran.append("async")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await speak(scope, receive, send)
            return
        after_response(asynchronous)
        after_response(ran.append, "plain")
        await sending(start(), body())(scope, receive, send)

    wrapped = AfterResponseMiddleware(app, runner=Runner())

    async def live() -> None:
        ran.clear()
        lifespan = Lifespan(wrapped)
        assert await lifespan.startup() == "lifespan.startup.complete"
        for _ in range(2):
            await StandIn().call(wrapped)
        assert not ran, "released, not held"
        assert await lifespan.shutdown() == "lifespan.shutdown.complete"
        await lifespan.end()
        assert sorted(ran) == ["async", "async", "plain", "plain"]

    for _ in range(3):
        asyncio.run(live())


def test_a_life_that_is_cut_short_does_not_spoil_the_next() -> None:
    """A loop that was closed without a shutdown."""
    site_runs: list[str] = []

    async def callback() -> None:
        await asyncio.sleep(0)
        site_runs.append("ran")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            after_response(callback)
            await sending(start(), body())(scope, receive, send)

    runner = Runner()
    wrapped = AfterResponseMiddleware(app, runner=runner)

    async def cut_short() -> None:
        await Lifespan(wrapped).startup()

    async def whole() -> None:
        lifespan = Lifespan(wrapped)
        await lifespan.startup()
        await StandIn().call(wrapped)
        await lifespan.shutdown()
        await lifespan.end()

    async def without_lifespan() -> None:
        await StandIn().call(wrapped)
        # Held: over when the call is over.
        assert site_runs == ["ran"] * 2
        await runner.drain(DEADLINE)

    asyncio.run(cut_short())
    asyncio.run(whole())
    asyncio.run(without_lifespan())
