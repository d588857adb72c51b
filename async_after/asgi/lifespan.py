"""The lifespan of an ASGI app: the runner starts and ends with it.

Promise 10, drained: before the shutdown is passed on, while what the app opened is still open.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from .._core.runner import Dispatcher, Runner
from .exchange import Message, Receive, Scope, Send


class Lifespan:
    """Of one app. One that returns, or raises before its first ``receive()``, does
    not speak lifespan (Django), and is answered for."""

    def __init__(
        self,
        app: Callable[[Any, Any, Any], Awaitable[object]],
        runner: Runner,
        release: Callable[[asyncio.AbstractEventLoop, bool], None],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """``release``: is told whether the server of this loop will tell us of its shutdown."""
        self._app = app
        self._runner = runner
        self._release = release
        self._scope = scope
        self._receive = receive
        self._send = send
        self._has_received = False
        self._attached_to: asyncio.AbstractEventLoop | None = None
        self._released: asyncio.AbstractEventLoop | None = None
        self._has_answered = False
        self._is_shutting_down = False

    async def run(self) -> None:
        try:
            try:
                await self._app(self._scope, self.receive, self.send)
            except Exception:
                if self._has_received:
                    raise
            if not self._has_answered:
                if not self._has_received:
                    await self.receive()
                await self.send({"type": "lifespan.startup.complete"})
            if self._attached_to is not None:
                if not self._is_shutting_down:
                    await self.receive()
                await self._send({"type": "lifespan.shutdown.complete"})
        finally:
            self._leave()

    async def receive(self) -> Message:
        message = await self._receive()
        self._has_received = True
        if message["type"] == "lifespan.startup":
            if self._attached_to is None:
                self._attached_to = asyncio.get_running_loop()
                self._runner.attach()
                self._release(self._attached_to, False)
        elif message["type"] == "lifespan.shutdown":
            self._is_shutting_down = True
            if closing := self._leave():
                await self._runner.close(closing)
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._has_answered = True
            self._released = asyncio.get_running_loop()
            self._release(self._released, True)
        elif kind == "lifespan.startup.failed":
            self._has_answered = True
            self._leave()
        await self._send(message)

    def _leave(self) -> Sequence[Dispatcher]:
        """This app uses the runner no more; whose callbacks end with it."""
        released, self._released = self._released, None
        if released is not None:
            self._release(released, False)
        loop, self._attached_to = self._attached_to, None
        return [] if loop is None else self._runner.detach(loop)
