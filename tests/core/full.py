"""Helpers: a runner whose slots are taken, and an app that is called without a server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from async_after import Callback, Runner, after_response
from async_after.asgi import AfterResponseMiddleware

from .conftest import DEADLINE, loop_exchange, responding, started

View = Callable[[], Awaitable[object]]


async def nothing() -> None:
    """What callbacks do here that need not do anything."""


async def some_turns() -> None:
    """What would happen at once has happened."""
    for _ in range(20):
        await asyncio.sleep(0)


class Full:
    """``limit`` callbacks hold the slots of a runner until ``let_go``; others wait behind them."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._go = asyncio.Event()
        self.holding: list[Callback[Any]] = []
        self.waiting: list[Callback[Any]] = []

    async def hold(self) -> None:
        for _ in range(self.runner.capacity._bounds.limit):
            running = asyncio.Event()
            with responding(loop_exchange(self.runner, "/holds")):
                self.holding.append(after_response(self._hold, running))
            await started(running)

    async def _hold(self, running: asyncio.Event) -> None:
        running.set()
        await self._go.wait()

    def queue(self, count: int = 1) -> None:
        """So many exchanges with one callback each finish."""
        for _ in range(count):
            with responding(loop_exchange(self.runner, "/waits")):
                self.waiting.append(after_response(nothing))

    async def let_go(self) -> None:
        """The slots are free again, and all that waits is run."""
        self._go.set()
        await self.runner.drain(DEADLINE)


@asynccontextmanager
async def full(runner: Runner, waiting: int | None = None) -> AsyncIterator[Full]:
    """Inside, the slots are taken and ``waiting`` callbacks wait, by default
    as many as may."""
    state = Full(runner)
    await state.hold()
    state.queue(runner.capacity._bounds.pending_limit if waiting is None else waiting)
    try:
        yield state
    finally:
        await state.let_go()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Does what ``scope["view"]`` does, and answers."""
    await scope["view"]()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def request(wrapped: AfterResponseMiddleware, view: View = nothing) -> None:
    """One request, whose client stays."""

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None: ...

    await wrapped({"type": "http", "method": "GET", "path": "/", "view": view}, receive, send)
