"""What the served apps tell the tests: one JSON line per event, in one file.

Each line is one ``os.write`` to a file opened with ``O_APPEND``, so the order
of the lines is the order of the events, across threads and processes. The
tests write lines of their own ("the client has the response") between them.
"""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from types import coroutine
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

VARIABLE = "ASYNC_AFTER_TEST_EVENTS"
"""The environment variable that names the file."""


class EventLog:
    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, event: str, ident: str, **more: object) -> None:
        line = json.dumps({"event": event, "id": ident, "at": time.monotonic(), **more})
        os.write(self._descriptor, f"{line}\n".encode())

    def close(self) -> None:
        os.close(self._descriptor)


_log: EventLog | None = None


def record(event: str, ident: str, **more: object) -> None:
    """In a served app."""
    global _log
    if _log is None:
        _log = EventLog(os.environ[VARIABLE])
    _log.write(event, ident, pid=os.getpid(), **more)


def ident_of(path: str) -> str:
    """The last part of a path names the request: no two requests share one."""
    return path.rpartition("/")[2]


@coroutine
def _noting(app: Awaitable[None], ident: str) -> Generator[Any, Any, None]:
    """Await this; say when somebody cancels it, whatever it makes of that."""
    steps = app.__await__()
    error: BaseException | None = None
    while True:
        try:
            waits_for = steps.send(None) if error is None else steps.throw(error)
        except StopIteration:
            return
        error = None
        try:
            yield waits_for
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as thrown:
            if isinstance(thrown, asyncio.CancelledError):
                record("cancelled", ident)
            error = thrown


class Recorder:
    """Between the server and the wrapper: when did the server have the last
    message, when did it cancel the app, and when did control come back to it?"""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        ident = ident_of(scope["path"])
        left: int | None = None
        """Of Content-Length: a response that has reached it is complete too."""

        async def watched_send(message: Message) -> None:
            nonlocal left
            try:
                await send(message)
            except (OSError, RuntimeError):
                record("send failed", ident)
                raise
            if message["type"] == "http.response.start":
                length = dict(message["headers"]).get(b"content-length")
                left = None if length is None else int(length)
            elif message["type"] == "http.response.body":
                if left is not None:
                    left -= len(message.get("body", b""))
                if left == 0 or not message.get("more_body", False):
                    record("sent", ident)

        async def watched_receive() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                record("gone", ident)
            return message

        try:
            await _noting(self.app(scope, watched_receive, watched_send), ident)
        except BaseException as error:
            record("raised", ident, error=type(error).__name__)
            raise
        record("returned", ident)
