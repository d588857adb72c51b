"""An exchange that watches the messages between an ASGI app and its server.

Promise 1, never_before: the response is complete when the server has accepted its last message.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .._core.delivery import Connection, Noted, probes
from .._core.exchange import Exchange

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

UNKNOWN: Any = object()


class AsgiExchange(Exchange):
    """An exchange with the ``receive`` and ``send`` that feed it.

    Every request passes here: one object, and no call that a plain response
    of start and body does not need.
    """

    __slots__ = ("_noted", "_receive", "_send")

    request: Any
    response: Any
    _receive: Receive
    _send: Send
    _noted: Connection | None

    def _connection(self) -> Connection | None:
        return probes.of_send(self._send) if self._noted is UNKNOWN else self._noted

    def _note(self) -> None:
        """The server has taken the last message. Whoever wants to know how far it
        gets asks now: a client that has read it may close at once, and the server
        then too, while the app is still busy (Django closes the response in a thread)."""
        connection = probes.of_send(self._send)
        self._noted = None if connection is None else Noted(connection)

    def _forget(self) -> None:
        # The server's have its scope, with headers and query string (promise 15).
        self._receive, self._send = _disconnected, _too_late
        self.request = self.response = None  # as super() does

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.disconnect()
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        size: int | None = None
        if kind == "http.response.body":
            size = len(message["body"]) if "body" in message else 0
            last = not message.get("more_body", False)
        elif kind == "http.response.start":
            headers = message.get("headers", ())
            if type(headers) is not list and type(headers) is not tuple:
                # Any iterable is allowed, and may be iterated only once.
                headers = list(headers)
                message = {**message, "headers": headers}
            # Some apps keep one list, and some middlewares edit it in place.
            snapshot = tuple(headers)
            try:
                await self._send(message)
            except Exception as error:
                self.refuse(error)
                raise
            self.start(message["status"], snapshot, message.get("trailers", False))
            return
        elif kind == "http.response.pathsend":
            last = True
        elif kind == "http.response.zerocopysend":
            last = not message.get("more_body", False)
        elif kind == "http.response.trailers":
            await self._trailers(message)
            return
        else:
            await self._send(message)
            return
        if last and not self.has_trailers:
            completes = self._is_last_offered = True  # as offer() says
        else:
            completes = self.offer(size or 0, last)
        try:
            await self._send(message)
        except Exception as error:
            self.refuse(error)
            raise
        except asyncio.CancelledError:
            # As soon as the server has the last message it reports a
            # disconnect, and frameworks cancel what is still in here.
            if completes:
                self.body(size, True)
            raise
        self.body(size, completes)
        if completes and self._queue is not None and self._queue.asks:
            self._note()

    async def _trailers(self, message: Message) -> None:
        completes = self.has_trailers and not message.get("more_trailers", False)
        if completes:
            self.offer_last()
        try:
            await self._send(message)
        except Exception as error:
            self.refuse(error)
            raise
        except asyncio.CancelledError:
            if completes:
                self.complete()
            raise
        if completes:
            self.complete()


async def _disconnected() -> Message:
    """``receive`` of an exchange that is through."""
    return {"type": "http.disconnect"}


async def _too_late(message: Message) -> None:
    """Its ``send``."""
