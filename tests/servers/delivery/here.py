"""uvicorn's own protocol and real sockets in the process of the test, which so can
look at both ends."""

import asyncio
import functools
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from async_after import Outcome, Runner
from async_after.asgi import AfterResponseMiddleware

from ..events import Receive, Scope, Send
from ..launch import HOST

DEADLINE = 10.0
Page = Callable[[Receive, Send], Awaitable[None]]


class Here:
    """Serves pages; ``outcomes`` has what became of each response, by path."""

    def __init__(
        self,
        http: Any = "httptools",
        *,
        path: Path | None = None,
        tls: ssl.SSLContext | None = None,
        asks: bool = True,
    ) -> None:
        self.pages: dict[str, Page] = {}
        self.cycles: dict[str, Any] = {}
        """uvicorn's ``RequestResponseCycle`` of each path."""
        self.port = 0
        self._outcomes: dict[str, asyncio.Future[Outcome]] = {}
        self._path, self._tls = path, tls
        wrapped = AfterResponseMiddleware(
            self._app, runner=Runner(), callbacks=[self._take] if asks else []
        )

        async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
            self.cycles[scope["path"]] = send.__self__  # type: ignore[attr-defined]
            await wrapped(scope, receive, send)

        config = uvicorn.Config(outermost, http=http, lifespan="off", log_config=None)
        config.load()
        self._state = ServerState()
        protocol: Any = config.http_protocol_class
        self._protocol = functools.partial(
            protocol, config=config, server_state=self._state, app_state={}
        )

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.pages[scope["path"]](receive, send)

    def _take(self, outcome: Outcome) -> None:
        assert outcome.path is not None
        future = self._future(outcome.path)
        future.get_loop().call_soon_threadsafe(future.set_result, outcome)

    def _future(self, path: str) -> "asyncio.Future[Outcome]":
        return self._outcomes.setdefault(path, self._loop.create_future())

    async def outcome(self, path: str) -> Outcome:
        async with asyncio.timeout(DEADLINE):
            return await self._future(path)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                await asyncio.sleep(0.001)

    async def __aenter__(self) -> "Here":
        self._loop = loop = asyncio.get_running_loop()
        if self._path is not None:
            self._server = await loop.create_unix_server(self._protocol, str(self._path))
        else:
            self._server = await loop.create_server(self._protocol, HOST, 0, ssl=self._tls)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._server.close()
        for connection in [*self._state.connections]:
            connection.transport.abort()
        for task in [*self._state.tasks]:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self.until(lambda: not self._state.connections)


def page(*parts: bytes, chunked: bool = False, before_last: Page | None = None) -> Page:
    """Each part a message. ``before_last``: what else happens then."""

    async def send_parts(receive: Receive, send: Send) -> None:
        length = str(sum(map(len, parts))).encode()
        headers = [] if chunked else [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, part in enumerate(parts, 1):
            is_last = number == len(parts)
            if is_last and before_last is not None:
                await before_last(receive, send)
            await send({"type": "http.response.body", "body": part, "more_body": not is_last})

    return send_parts
