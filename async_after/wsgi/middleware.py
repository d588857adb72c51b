"""Wraps a WSGI app: opens an exchange for each request, which ends with the response.

Promise 1, never_before: callbacks start when the server has called ``close()``
of the response (PEP 3333, "The Application/Framework Side"), the latest moment
that every server offers, or, where the app has failed, when that has reached
the server.
Promise 3, outside_in: each step of the body and ``close()`` run inside the exchange.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any, get_args

from asgiref.sync import iscoroutinefunction

from .._core.conf import WsgiLane
from .._core.exchange import KEY, Exchange, Outcome, current_exchange, inside
from .._core.runner import Runner
from .._core.wrapper import Wrapper
from .dispatch import lane_of
from .environ import Environ, Files, StartResponse, WsgiExchange, exchange_of, path_of
from .response import Body, Response, SizedBody

# Frameworks declare the three in many ways.
App = Callable[[Any, Any], Iterable[bytes]]


class AfterResponseMiddleware(Wrapper[App]):
    """Wraps a WSGI application; ``after_response`` works inside it.

    ``runner``: who runs the callbacks, by default the runner of the process.
    ``callbacks``: called with the ``Outcome`` after every response. ``lane``:
    ``"threads"`` lets the runner's threads run the callbacks, so that the
    server's thread and the connection are free; ``"inline"`` runs them in
    ``close()``, in the server's thread; by default what
    ``ASYNC_AFTER["WSGI_LANE"]`` says, which is ``"threads"`` by default. Raises
    ``TypeError`` or ``ValueError`` for anything else, and Django's
    ``ImproperlyConfigured`` for a wrong ``ASYNC_AFTER``.
    """

    def __init__(
        self,
        app: App,
        *,
        runner: Runner | None = None,
        callbacks: Iterable[Callable[[Outcome], object]] = (),
        lane: WsgiLane | None = None,
    ) -> None:
        super().__init__(app, "a WSGI", runner, callbacks)
        if iscoroutinefunction(app) or iscoroutinefunction(type(app).__call__):
            raise TypeError(
                f"{type(app).__name__} is an ASGI application: wrap it in"
                " async_after.asgi.AfterResponseMiddleware. This one is for WSGI applications."
            )
        if lane is not None and lane not in get_args(WsgiLane):
            kind = ValueError if isinstance(lane, str) else TypeError
            raise kind(f'lane must be "threads", "inline" or None, not {lane!r}')
        self._lane = lane

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if "uwsgi" in sys.modules:
            # It clears its dict, and fills it for the next request: callbacks
            # would read another client's cookies in theirs.
            environ = {**environ}
        outer = exchange_of(environ, start_response)
        if outer is not None:
            return self._nested(outer, environ, start_response)
        lane = lane_of(self.runner, self._lane)
        parent = current_exchange.get()
        exchange = WsgiExchange(lane.host, environ["REQUEST_METHOD"], path_of(environ), parent)
        exchange.environ = environ
        environ[KEY] = exchange
        response = Response(exchange, lane, start_response)
        files = Files(environ)
        current_exchange.set(exchange)
        try:
            self._register_on(exchange)
            body = self.app(environ, response.start)
        except BaseException as error:
            response.end_soon(error)
            raise
        finally:
            files.restore(environ)
            current_exchange.set(parent)
        if body in files and response.watch_file(body):
            return body
        return (SizedBody if hasattr(body, "__len__") else Body)(response, body)

    def _nested(
        self, outer: Exchange, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """This request has an exchange already: a wrapper around this one made it."""
        environ[KEY] = outer
        self._register_on(outer)
        with inside(outer):
            return self.app(environ, start_response)
