"""Where a Django response is closed, and how its callbacks run there.

The Django middleware alone meets four of them: a test client, sync or async,
which waits for the callbacks; an ASGI server; and a WSGI server.
"""

import asyncio
import contextvars
import functools
from collections.abc import Mapping
from concurrent.futures import Future

from django.http import HttpRequest

from .._core.exchange import Exchange, lending
from .._core.lanes import (
    ThisThread,
    ThreadSensitivity,
    close_old_connections,
    loop_of_this_thread,
    open_blocks,
)
from .._core.runner import Dispatcher, InlineDispatcher, Runner
from .._core.runtime import gevent, running_loop
from ..wsgi import lane_of


class Handler:
    """Has the callbacks of an ended exchange run: here, by its dispatcher."""

    is_server = True
    keeps_context = False
    """Whether the context is thrown away with the request, so that the
    exchange may stay current until then."""

    def __init__(self, host: Dispatcher) -> None:
        self.host = host

    def run(self, exchange: Exchange) -> None:
        """From ``close()``."""
        self.host.dispatch(exchange)

    def run_here(self, exchange: Exchange) -> None:
        """The same, in the thread that has iterated a synchronous body."""
        self.run(exchange)

    def run_soon(self, exchange: Exchange) -> None:
        """From any thread, without waiting."""
        self.run(exchange)

    async def arun(self, exchange: Exchange) -> None:
        """From an asynchronous body."""
        self.run_soon(exchange)

    def finish(self, exchange: Exchange) -> None:
        """It has ended without callbacks: what is registered later is late."""

    def hold(self, exchange: Exchange) -> None:
        """At the end of ``close()``, whoever has ended the exchange."""


def handler_of(request: HttpRequest, runner: Runner) -> Handler:
    loop = _loop_of(request)
    if is_from_test_client(request):
        return _TestClient(runner) if loop is None else _AsyncTestClient(runner, loop)
    if loop is not None:
        return _ASGIServer(runner, loop)
    return _WSGIServer(runner)


def is_from_test_client(request: HttpRequest) -> bool:
    """Whether Django's ``Client`` or ``AsyncClient`` made this request.

    Their handlers set this attribute on each request, to either value, before
    any middleware sees it; nothing else in Django does.
    """
    return hasattr(request, "_dont_enforce_csrf_checks")


def _loop_of(request: HttpRequest) -> asyncio.AbstractEventLoop | None:
    """The loop that serves an ASGI request, which may be waiting for this thread."""
    if not isinstance(getattr(request, "scope", None), Mapping):
        return None
    return running_loop() or loop_of_this_thread()


class _TestClient(Handler):
    is_server = False
    host: InlineDispatcher

    def __init__(self, runner: Runner) -> None:
        super().__init__(InlineDispatcher(runner))

    def run(self, exchange: Exchange) -> None:
        self.host.run(exchange)

    def run_soon(self, exchange: Exchange) -> None:
        gevent.start_thread(functools.partial(self.host.run, exchange))

    async def arun(self, exchange: Exchange) -> None:
        await self.host.arun(exchange)

    def finish(self, exchange: Exchange) -> None:
        self.host.finish(exchange)


class _AsyncTestClient(_TestClient):
    """Closes the response in another thread. What sees the test's transaction
    is a task on the view's loop, in the context of the request."""

    def __init__(self, runner: Runner, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(runner)
        self._loop = loop
        self._context = contextvars.copy_context()

    def run(self, exchange: Exchange) -> None:
        if running_loop() is self._loop:
            self._start(exchange)
        else:
            self._start(exchange).result()

    def run_here(self, exchange: Exchange) -> None:
        if running_loop() is self._loop:
            self._start(exchange)
        else:
            # Plain callbacks need this very thread: they get it while it waits.
            executor = ThisThread()
            executor.run_until(self._start(exchange, ThreadSensitivity(executor)))

    def run_soon(self, exchange: Exchange) -> None:
        self._start(exchange)

    def _start(
        self, exchange: Exchange, sensitivity: ThreadSensitivity | None = None
    ) -> "Future[None]":
        done: Future[None] = Future()

        def start() -> None:
            running = self.host.arun(exchange, sensitivity)
            task = self._loop.create_task(running, context=self._context)
            task.add_done_callback(lambda task: done.set_result(None))

        self._loop.call_soon_threadsafe(start)
        return done


class _WSGIServer(Handler):
    def __init__(self, runner: Runner) -> None:
        self._lane = lane_of(runner)
        super().__init__(self._lane.host)

    def run(self, exchange: Exchange) -> None:
        self._lane.run(exchange)

    def run_soon(self, exchange: Exchange) -> None:
        self._lane.run_soon(exchange)

    def finish(self, exchange: Exchange) -> None:
        self._lane.finish(exchange)


class _ASGIServer(Handler):
    """Django awaits ``close()``, in the request's own thread: keeping that
    thread lets the server's graceful shutdown cover the callbacks."""

    keeps_context = True

    def __init__(self, runner: Runner, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(runner.dispatcher(loop))
        self._runner = runner
        self._loop = loop

    def hold(self, exchange: Exchange) -> None:
        if running_loop() is self._loop:
            return
        # As Django does after this: the callbacks may need the connection.
        close_old_connections(keep=open_blocks())
        timeout = self._runner.capacity.wait_timeout
        # A callback that has made this request needs no slot meanwhile.
        with lending():
            is_idle = exchange.idle_latch().wait_in_thread(timeout)
        if not is_idle:
            self._runner.shutdown.begin_waiting(0)
            self._runner.capacity.reports.unsettled(
                f"its request was kept for wait_timeout={timeout} s and is let go now: it is lost"
                " if the server shuts down before it ends. An application that is wrapped in"
                " async_after.asgi waits for it at shutdown",
                of=exchange,
            )
