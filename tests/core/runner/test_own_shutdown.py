"""Promise 10, drained, where one process has several loops, runners or apps: each shutdown waits
for what is its own, gives up what is its own, and leaves the others alone."""

import asyncio
import http.client
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from async_after import Callback, CallbackState, Runner, after_response
from async_after.asgi import AfterResponseMiddleware

from ..conftest import DEADLINE, MakeRunner, free, started
from ..full import app, nothing, request, some_turns
from .test_loops import Elsewhere, Server

SUCCEEDED, DROPPED, RUNNING = (
    CallbackState.SUCCEEDED,
    CallbackState.DROPPED,
    CallbackState.RUNNING,
)
Work = Callable[[threading.Event], Any]


def plain(event: threading.Event) -> bool:
    return event.wait(DEADLINE)


async def coroutine(event: threading.Event) -> bool:
    while not event.is_set():
        await asyncio.sleep(0.001)
    return True


KINDS: dict[str, tuple[dict[str, Any], Work]] = {
    "plain": ({}, plain),
    "coroutine": ({}, coroutine),
    "background": ({"lane": "background"}, coroutine),
    "plain beside": ({"concurrent": True}, plain),
    "coroutine beside": ({"concurrent": True}, coroutine),
}


class Site:
    """A wrapped app on a loop of its own, with a lifespan."""

    def __init__(self, wrapped: AfterResponseMiddleware, loop: Elsewhere | None = None) -> None:
        self.wrapped = wrapped
        self.elsewhere = loop or Elsewhere()
        self.go_on = threading.Event()
        self.callbacks: list[Callback[Any]] = []
        self._server: Server | None = None

    async def start(self) -> "Site":
        async def start() -> Server:
            return await Server(self.wrapped).start()

        self._server = await self.elsewhere.run(start())
        return self

    async def ask(self, kind: str) -> Callback[Any]:
        """One request, whose callback waits for ``go_on``, with one behind it. It is answered,
        and its callback runs."""
        options, function = KINDS[kind]

        async def view() -> None:
            self.callbacks.append(after_response.using(**options)(function, self.go_on))
            self.callbacks.append(after_response(nothing))

        await self.elsewhere.run(request(self.wrapped, view))
        async with asyncio.timeout(DEADLINE):
            while self.callbacks[-2].state is CallbackState.PENDING:
                await asyncio.sleep(0.001)
        return self.callbacks[-2]

    def stop(self) -> "asyncio.Future[Any]":
        assert self._server is not None
        return asyncio.ensure_future(self.elsewhere.run(self._server.stop()))

    @property
    def states(self) -> set[CallbackState]:
        return {callback.state for callback in self.callbacks}

    async def end(self) -> None:
        await self.elsewhere.end()


@asynccontextmanager
async def sites(*wrapped: AfterResponseMiddleware) -> AsyncIterator[list[Site]]:
    found = [Site(each) for each in wrapped]
    try:
        yield [await site.start() for site in found]
    finally:
        for site in found:
            site.go_on.set()
            await site.end()


def two_apps(runner: Runner) -> list[AfterResponseMiddleware]:
    return [AfterResponseMiddleware(app, runner=runner) for _ in range(2)]


def one_app_twice(runner: Runner) -> list[AfterResponseMiddleware]:
    """As two servers in two threads do with one ``application``."""
    return [AfterResponseMiddleware(app, runner=runner)] * 2


APPS = pytest.mark.parametrize("apps", [two_apps, one_app_twice])
Apps = Callable[[Runner], list[AfterResponseMiddleware]]


# Several loops.


@APPS
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_each_loop_waits_for_its_own(
    make_runner: MakeRunner, apps: Apps, kind: str, order: tuple[int, int]
) -> None:
    runner = make_runner(wait_timeout=DEADLINE)
    async with sites(*apps(runner)) as found:
        first, second = (found[number] for number in order)
        for site in found:
            await site.ask(kind)
        stopping = first.stop()
        await some_turns()
        assert not stopping.done()
        first.go_on.set()
        await stopping
        assert first.states == {SUCCEEDED}
        assert second.callbacks[0].state is RUNNING
        await second.ask(kind)
        stopping = second.stop()
        await some_turns()
        assert not stopping.done()
        second.go_on.set()
        await stopping
        assert second.states == {SUCCEEDED}
    assert runner.statistics().dropped == 0
    await free(runner)


@APPS
@pytest.mark.parametrize("kind", KINDS)
async def test_each_loop_gives_up_its_own(
    make_runner: MakeRunner, apps: Apps, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner(wait_timeout=0.05, close_timeout=0.05)
    async with sites(*apps(runner)) as [first, second]:
        for site in (first, second):
            await site.ask(kind)
        first_dropped = 1 if "beside" in kind else 2  # the other waits behind it
        await first.stop()
        assert first.callbacks[0].state is DROPPED
        assert caplog.text.count("was dropped: shutdown") == first_dropped
        assert second.callbacks[0].state is RUNNING
        await second.ask(kind)
        second.go_on.set()
        await second.stop()
        assert second.states == {SUCCEEDED}


@APPS
async def test_nobody_is_held_while_its_server_speaks_lifespan(
    make_runner: MakeRunner, apps: Apps
) -> None:
    """Whoever else has started since, or has gone: ``ask`` ends while its callback runs."""
    runner = make_runner(wait_timeout=DEADLINE)
    async with sites(*apps(runner)) as [first, second]:
        for site in (first, second, first):
            await site.ask("coroutine")
        first.go_on.set()
        await first.stop()
        await second.ask("coroutine")
        dispatchers = runner._dispatchers._loops.values()
        assert [dispatcher.held for dispatcher in dispatchers] == [0] * len(dispatchers)
        second.go_on.set()
        await second.stop()


async def test_a_loop_that_starts_anew(make_runner: MakeRunner) -> None:
    """Its server is restarted while the other one goes on."""
    runner = make_runner(wait_timeout=DEADLINE)
    async with sites(*one_app_twice(runner)) as [first, second]:
        await second.ask("coroutine")
        first.go_on.set()
        for kind in KINDS:
            await first.ask(kind)
            await first.stop()
            assert first.states == {SUCCEEDED}
            await first.start()
        assert second.callbacks[0].state is RUNNING


# Lifespans that fail.


async def fails_at_startup(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.failed", "message": "no database"})
    else:
        await app(scope, receive, send)


async def raises_at_startup(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        raise LookupError("no database")
    await app(scope, receive, send)


async def raises_later(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise LookupError("the pool is broken")
    await app(scope, receive, send)


@pytest.mark.parametrize("failing", [fails_at_startup, raises_at_startup, raises_later])
@pytest.mark.parametrize("where", ["same loop", "other loop"])
async def test_a_lifespan_that_fails_ends_nobody_else(
    make_runner: MakeRunner, failing: Any, where: str
) -> None:
    runner = make_runner(wait_timeout=DEADLINE)
    wrapped, other = (AfterResponseMiddleware(each, runner=runner) for each in (app, failing))
    async with sites(wrapped) as [site]:
        await site.ask("coroutine")
        elsewhere = site.elsewhere if where == "same loop" else Elsewhere()
        await elsewhere.run(_fail(other))
        failed = Site(other, elsewhere)
        failed.go_on.set()
        await failed.ask("coroutine")  # its server may go on all the same
        assert failed.states <= {SUCCEEDED}
        assert site.callbacks[0].state is RUNNING
        await site.ask("plain")
        stopping = site.stop()
        await some_turns()
        assert not stopping.done()
        site.go_on.set()
        await stopping
        assert site.states == {SUCCEEDED}
        if where == "other loop":
            await elsewhere.end()
    assert not runner._dispatchers._apps
    await free(runner)


async def _fail(wrapped: AfterResponseMiddleware) -> None:
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    inbox.put_nowait({"type": "lifespan.startup"})

    async def send(message: Any) -> None: ...

    try:
        async with asyncio.timeout(DEADLINE):
            await wrapped({"type": "lifespan"}, inbox.get, send)
    except LookupError:
        pass


# Several runners, and several apps, on one loop.


@pytest.mark.parametrize("kind", KINDS)
async def test_each_runner_waits_for_its_own(make_runner: MakeRunner, kind: str) -> None:
    runners = [
        make_runner(wait_timeout=DEADLINE),
        make_runner(wait_timeout=0.05, close_timeout=0.05),
    ]
    elsewhere = Elsewhere()
    patient, impatient = (
        Site(AfterResponseMiddleware(app, runner=runner), elsewhere) for runner in runners
    )
    for site in (patient, impatient):
        await site.start()
        await site.ask(kind)
    await impatient.stop()
    assert impatient.callbacks[0].state is DROPPED
    await patient.ask(kind)
    stopping = patient.stop()
    await some_turns()
    assert not stopping.done()
    patient.go_on.set()
    impatient.go_on.set()
    await stopping
    assert patient.states == {SUCCEEDED}
    assert runners[0].statistics().dropped == 0
    await elsewhere.end()


async def test_the_last_of_two_apps_on_one_loop(make_runner: MakeRunner) -> None:
    """They have one runner and one loop, and so one shutdown, which is the second."""
    runner = make_runner(wait_timeout=DEADLINE)
    first, second = two_apps(runner)
    async with sites(first) as [site]:
        other = await Site(second, site.elsewhere).start()
        await site.ask("coroutine")
        await other.ask("plain")
        await site.stop()
        assert site.callbacks[0].state is RUNNING
        stopping = other.stop()
        await some_turns()
        assert not stopping.done()
        site.go_on.set()
        other.go_on.set()
        await stopping
        assert site.states | other.states == {SUCCEEDED}


# The real thing: two servers in two threads of one process.


class Uvicorn:
    def __init__(self, wrapped: AfterResponseMiddleware) -> None:
        self.is_shutting_down = threading.Event()

        async def outside(scope: Any, receive: Any, send: Any) -> None:
            async def told() -> Any:
                message = await receive()
                if message["type"] == "lifespan.shutdown":
                    self.is_shutting_down.set()
                return message

            await wrapped(scope, told, send)

        config = uvicorn.Config(outside, host="127.0.0.1", port=0, log_config=None, lifespan="on")
        self._server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self._server.run, daemon=True)
        self.thread.start()

    async def port(self) -> int:
        async with asyncio.timeout(DEADLINE):
            while not self._server.started:
                await asyncio.sleep(0.001)
        found: int = self._server.servers[0].sockets[0].getsockname()[1]
        return found

    async def get(self, path: str) -> bytes:
        port = await self.port()

        def get() -> bytes:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
            try:
                connection.request("GET", path)
                return connection.getresponse().read()
            finally:
                connection.close()

        return await asyncio.to_thread(get)

    def stop(self) -> None:
        self._server.should_exit = True


@APPS
async def test_two_servers(make_runner: MakeRunner, apps: Any) -> None:
    runner = make_runner(wait_timeout=DEADLINE)
    go_on = {"/first": threading.Event(), "/second": threading.Event()}
    callbacks: dict[str, list[Callback[Any]]] = {path: [] for path in go_on}

    async def served(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError  # as Django does
        path = scope["path"]
        for options, function in KINDS.values():
            callbacks[path].append(after_response.using(**options)(function, go_on[path]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    wrapped = [AfterResponseMiddleware(served, runner=runner) for _ in range(2)]
    first, second = map(Uvicorn, wrapped if apps is two_apps else wrapped[:1] * 2)
    try:
        assert await first.get("/first") == b"ok"
        assert await second.get("/second") == b"ok"
        first.stop()
        await started(first.is_shutting_down)
        await asyncio.to_thread(first.thread.join, 0.3)
        assert first.thread.is_alive(), "it waits"
        go_on["/first"].set()
        await asyncio.to_thread(first.thread.join, DEADLINE)
        assert {callback.state for callback in callbacks["/first"]} == {SUCCEEDED}
        assert not any(callback.done() for callback in callbacks["/second"])
        assert await second.get("/second") == b"ok"
    finally:
        for event in go_on.values():
            event.set()
        second.stop()
        await asyncio.to_thread(second.thread.join, DEADLINE)
    assert {callback.state for callback in callbacks["/second"]} == {SUCCEEDED}
    assert runner.statistics().dropped == 0
