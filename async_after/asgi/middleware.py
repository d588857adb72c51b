"""Wraps an ASGI app: opens an exchange for each request, and ends it behind the app.

Promise 1, never_before: callbacks start when the app has returned or raised,
and the server has accepted the last message or will see the failure at once.
Promise 4, never_cancelled_by_the_client: they run in tasks of the runner,
which no server and no framework knows of.
Promise 12, idle_cost: an exchange without callbacks makes no task.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from .._core.exchange import KEY, Exchange, Outcome, current_exchange, inside
from .._core.runner import LoopDispatcher, Runner
from .._core.wrapper import Wrapper
from .exchange import UNKNOWN, AsgiExchange, Receive, Scope, Send
from .hold import hold
from .lifespan import Lifespan

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
        self._released: set[asyncio.AbstractEventLoop] = set()
        """The loops whose servers will tell us of their shutdown."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or KEY in scope:
            await self._pass_on(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        dispatcher = self._dispatcher
        if dispatcher is None or dispatcher.loop is not loop:
            dispatcher = self._dispatcher = self.runner.dispatcher(loop)
        parent = current_exchange.get()
        exchange = AsgiExchange(dispatcher, scope["method"], scope["path"], parent)
        exchange._receive = receive
        exchange._send = send
        exchange._noted = UNKNOWN
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
            is_held = loop not in self._released if self._hold is None else self._hold
            if is_held and exchange.is_complete:
                # A parent that has ended is none: a server may start a pipelined
                # request in the context of the one before (daphne, uvicorn).
                is_inner = parent is not None and not parent.is_ended
                await hold(self.runner, dispatcher, exchange, is_inner=is_inner)

    def _follow(self, loop: asyncio.AbstractEventLoop, is_released: bool) -> None:
        """``is_released``: its server will tell us of its shutdown."""
        if is_released:
            self._released -= {each for each in [*self._released] if each.is_closed()}
            self._released.add(loop)
        else:
            self._released.discard(loop)
        self._dispatcher = None  # each lifespan has one of its own

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._nested(scope[KEY], scope, receive, send)
        elif current_exchange.get() is not None:
            # An in-process client, inside an exchange that is not this one.
            with inside(None):
                await self._pass_on(scope, receive, send)
        elif kind == "lifespan":
            await Lifespan(self.app, self.runner, self._follow, scope, receive, send).run()
        else:
            await self.app(scope, receive, send)

    async def _nested(self, outer: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        """This request has an exchange already: a wrapper around this one made it."""
        self._register_on(outer)
        with inside(outer):
            await self.app(scope, receive, send)
