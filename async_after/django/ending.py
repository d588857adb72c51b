"""The end of an exchange that hangs on a Django response.

Promise 3, outside_in: each step of the body and ``close()`` run inside the exchange.
"""

import _thread
import asyncio
import weakref
from typing import Any

from django.http.response import HttpResponseBase

from ..wsgi import Ending, WsgiExchange
from .handlers import Handler


class DjangoEnding(Ending):
    """Ends one exchange, once, whoever comes first: the body or ``close()``."""

    def __init__(self, exchange: WsgiExchange, handler: Handler) -> None:
        super().__init__(exchange, handler)
        self.handler = handler
        self.error: BaseException | None = None
        """What has gone wrong, if it ends later."""
        self.thread: int | None = None
        """The one that has iterated a synchronous body to its end."""
        self._response: weakref.ref[HttpResponseBase] | None = None

    def belong_to(self, response: HttpResponseBase) -> None:
        # Weakly, so that a response that nobody closes is collected at once,
        # and its last closer can say so.
        self._response = weakref.ref(response)

    def end_with(self, task: "asyncio.Task[Any] | None") -> None:
        """End it at the latest with the task of this request.

        Django closes no response that cannot be sent (uvicorn on uvloop raises
        RuntimeError where the client has gone), and what has failed keeps it
        alive. The task is the server's, or, in Django 5.2, one of Django's own
        that sends the response: if that ends well, ``close()`` comes after it;
        if not, Django raises the same error to the server, and sends no more.
        """
        if task is None or not self.handler.is_server:
            return
        weak = weakref.ref(self)
        is_djangos = "ASGIHandler" in getattr(task.get_coro(), "__qualname__", "")

        def end(task: "asyncio.Task[Any]") -> None:
            ending = weak()
            if ending is None or ending.exchange.is_ended:
                return
            error = None if task.cancelled() else task.exception()
            if error is None:
                if is_djangos:
                    return
                ending.exchange.disconnect()
            else:
                # Of send(): Django answers what a view raises, and what a body
                # raises has ended the exchange already.
                ending.exchange.refuse(error)
            ending.end_soon(error)

        task.add_done_callback(end)

    def start(self) -> HttpResponseBase | None:
        """Tell the exchange what the response says of itself, as late as
        possible; the server does not tell us more."""
        response = self._response() if self._response is not None else None
        exchange = self.exchange
        if response is not None and exchange.status is None and not exchange.is_ended:
            headers = [*response.items()]
            headers += [
                ("Set-Cookie", cookie.OutputString()) for cookie in response.cookies.values()
            ]
            exchange.start(
                response.status_code, [(_bytes(name), _bytes(value)) for name, value in headers]
            )
        return response

    def end(self, error: BaseException | None = None) -> None:
        if self._ends(self.error if error is None else error):
            run_here, run = self.handler.run_here, self.handler.run
            (run_here if self.thread == _thread.get_ident() else run)(self.exchange)
        self.handler.hold(self.exchange)

    async def aend(self, error: BaseException | None = None) -> None:
        if self._ends(self.error if error is None else error):
            await self.handler.arun(self.exchange)

    def end_soon(self, error: BaseException | None = None) -> None:
        super().end_soon(self.error if error is None else error)


def _bytes(text: str) -> bytes:
    # Django has encoded what is not latin-1; a cookie's value may still be.
    return text.encode("latin-1", "replace")
