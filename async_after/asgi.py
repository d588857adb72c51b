"""The ASGI side: watches the messages of an app and runs callbacks after it.

Promise 1, never_before: callbacks start when the app has returned or raised,
and the server has accepted the last message or will see the failure at once.
Promise 4, never_cancelled_by_the_client: they run in tasks of the runner,
which no server and no framework knows of.
Promise 12, idle_cost: an exchange without callbacks makes no task.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from . import probes
from .delivery import Connection, Noted
from .dispatch import LoopDispatcher
from .exchange import Exchange, current_exchange, inside
from .finding import KEY
from .holding import hold
from .outcome import Outcome
from .runner import Runner
from .wrapper import Wrapper

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Frameworks declare these three in many ways; django-stubs wants a dict for the scope.
App = Callable[[Any, Any, Any], Awaitable[object]]


class AfterResponseMiddleware(Wrapper[App]):
    """Wraps an ASGI application; ``after_response`` works inside it.

    ``runner``: who runs the callbacks, by default the runner of the process.
    ``callbacks``: called with the ``Outcome`` after every response. ``hold``:
    whether the ASGI coroutine stays until the callbacks have ended. By
    default it does only where the server does not speak lifespan: there it is
    all that a server waits for at shutdown. Raises ``TypeError`` for anything
    else, and Django's ``ImproperlyConfigured`` for a wrong ``ASYNC_AFTER``.
    """

    def __init__(
        self,
        app: App,
        *,
        runner: Runner | None = None,
        callbacks: Iterable[Callable[[Outcome], object]] = (),
        hold: bool | None = None,
    ) -> None:
        super().__init__(app, "an ASGI", runner, callbacks)
        if hold is not None and not isinstance(hold, bool):
            raise TypeError(f"hold must be True, False or None, not {hold!r}")
        self._hold = hold
        self._dispatcher: LoopDispatcher | None = None
        """That of the loop of the last request."""
        self._released: asyncio.AbstractEventLoop | None = None
        """The loop whose server will tell us of its shutdown."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or KEY in scope:
            await self._pass_on(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        dispatcher = self._dispatcher
        if dispatcher is None or dispatcher.loop is not loop:
            dispatcher = self._dispatcher = self.runner.dispatcher(loop)
        parent = current_exchange.get()
        exchange = _AsgiExchange(dispatcher, scope["method"], scope["path"], parent)
        exchange._receive = receive
        exchange._send = send
        exchange._noted = _UNKNOWN
        current_exchange.set(exchange)
        try:
            if self._callbacks:
                self._register_on(exchange)
            scope = scope.copy() if type(scope) is dict else {**scope}
            scope[KEY] = exchange
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            # The server still has to send its error page: at once, and first.
            if exchange.end(error):
                dispatcher.dispatch_soon(exchange)
            raise
        finally:
            current_exchange.set(parent)
        if exchange.end():
            dispatcher.give_way(exchange)
            is_held = self._released is not loop if self._hold is None else self._hold
            if is_held and exchange.is_complete:
                # A parent that has ended is none: a server may start a pipelined
                # request in the context of the one before (daphne, uvicorn).
                is_inner = parent is not None and not parent.is_ended
                await hold(self.runner, dispatcher, exchange, is_inner=is_inner)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._nested(scope[KEY], scope, receive, send)
        elif current_exchange.get() is not None:
            # An in-process client, inside an exchange that is not this one.
            with inside(None):
                await self._pass_on(scope, receive, send)
        elif kind == "lifespan":
            await _Lifespan(self, scope, receive, send).run()
        else:
            await self.app(scope, receive, send)

    async def _nested(self, outer: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        """This request has an exchange already: a wrapper around this one made it."""
        self._register_on(outer)
        with inside(outer):
            await self.app(scope, receive, send)


_UNKNOWN: Any = object()


class _AsgiExchange(Exchange):
    """An exchange with the ``receive`` and ``send`` that feed it.

    Every request passes here: one object, and no call that a plain response
    of start and body does not need.
    """

    __slots__ = ("_noted", "_receive", "_send")

    _receive: Receive
    _send: Send
    _noted: Connection | None

    def _connection(self) -> Connection | None:
        return probes.of_send(self._send) if self._noted is _UNKNOWN else self._noted

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
        if last and not self._has_trailers:
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
        if completes and self._registry is not None and self._registry.asks:
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


class _Lifespan:
    """The lifespan of one app: the runner starts and ends with it.

    An app that returns, or raises before its first ``receive()``, does not
    speak lifespan (Django), and is answered for. For one that does, the
    runner is drained before the shutdown is passed on, while what the app
    opened is still open.
    """

    def __init__(
        self, middleware: AfterResponseMiddleware, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._middleware = middleware
        self._scope = scope
        self._receive = receive
        self._send = send
        self._has_received = False
        self._is_attached = False
        self._has_answered = False
        self._is_shutting_down = False

    async def run(self) -> None:
        try:
            try:
                await self._middleware.app(self._scope, self.receive, self.send)
            except Exception:
                if self._has_received:
                    raise
            if not self._has_answered:
                if not self._has_received:
                    await self.receive()
                await self.send({"type": "lifespan.startup.complete"})
            if self._is_attached:
                if not self._is_shutting_down:
                    await self.receive()
                await self._send({"type": "lifespan.shutdown.complete"})
        finally:
            self._leave()

    async def receive(self) -> Message:
        message = await self._receive()
        self._has_received = True
        runner = self._middleware.runner
        if message["type"] == "lifespan.startup":
            if not self._is_attached:
                self._is_attached = True
                runner.attach()
                self._middleware._dispatcher = None
        elif message["type"] == "lifespan.shutdown":
            self._is_shutting_down = True
            if self._leave():
                await runner.aclose()
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._has_answered = True
            self._middleware._released = asyncio.get_running_loop()
        elif kind == "lifespan.startup.failed":
            self._has_answered = True
            self._leave()
        await self._send(message)

    def _leave(self) -> bool:
        """This app uses the runner no more; whether no other one does."""
        self._middleware._released = None
        if not self._is_attached:
            return False
        self._is_attached = False
        return self._middleware.runner.detach()
