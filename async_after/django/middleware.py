"""The Django middleware: labels an exchange, or opens one.

With the ASGI wrapper outside it only tells the exchange which Django request
and response it belongs to, and what a view raised. Alone, it opens an
exchange and hangs its end on the response. It should stand first.
"""

import asyncio
import sys
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .._core import conf
from .._core.exchange import KEY, Exchange, current_exchange, key_holder
from .._core.runner import get_runner
from ..wsgi import WsgiExchange
from .closers import hang_on
from .ending import DjangoEnding
from .handlers import handler_of
from .signals import announce


class AfterResponseMiddleware:
    """``MIDDLEWARE = ["async_after.django.AfterResponseMiddleware", ...]``.

    Raises ``ImproperlyConfigured`` at start-up if ``ASYNC_AFTER`` is wrong.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        conf.check()
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self.__acall__(request)
        exchange = _keys(request).get(KEY)
        if exchange is None:
            return self._alone(request)
        is_first = _label(exchange, request)
        try:
            response: HttpResponseBase = self.get_response(request)
        except BaseException:
            self._see(exchange, request, None, is_first)
            raise
        self._see(exchange, request, response, is_first)
        return response

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        exchange = _keys(request).get(KEY)
        if exchange is None:
            return await self._aalone(request)
        is_first = _label(exchange, request)
        try:
            response: HttpResponseBase = await self.get_response(request)
        except BaseException:
            self._see(exchange, request, None, is_first)
            raise
        self._see(exchange, request, response, is_first)
        return response

    def _see(
        self,
        exchange: Exchange,
        request: HttpRequest,
        response: HttpResponseBase | None,
        is_first: bool,
    ) -> None:
        if is_first:
            exchange.response = response
            announce(exchange, type(self), request, lambda: response)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Django calls this with what a view raised, before it becomes a response."""
        exchange = _keys(request).get(KEY)
        if exchange is not None:
            exchange.error = exception

    # Without a wrapper outside.

    def _alone(self, request: HttpRequest) -> HttpResponseBase:
        exchange, ending = _open(request)
        try:
            response: HttpResponseBase = self.get_response(request)
        except BaseException as error:
            announce(exchange, type(self), request, exchange.seen)
            _fail(ending, error)
            raise
        if announce(exchange, type(self), request, exchange.seen):
            exchange.see(response)
        return _close(request, response, ending)

    async def _aalone(self, request: HttpRequest) -> HttpResponseBase:
        exchange, ending = _open(request)
        ending.end_with(asyncio.current_task())
        try:
            response: HttpResponseBase = await self.get_response(request)
        except BaseException as error:
            announce(exchange, type(self), request, exchange.seen)
            _fail(ending, error)
            raise
        if announce(exchange, type(self), request, exchange.seen):
            exchange.see(response)
        return _close(request, response, ending)


class _Opened(WsgiExchange):
    """An exchange for want of a wrapper outside.

    Until it ends it refers to a response weakly: one that Django throws away
    is to be collected at once, which ends the exchange (``closers``).
    """

    __slots__ = ("_seen",)

    _seen: "weakref.ref[HttpResponseBase] | None"

    def see(self, response: HttpResponseBase) -> None:
        """Somebody will ask for it."""
        self._seen = weakref.ref(response)

    def seen(self) -> HttpResponseBase | None:
        """The response; from the end on, it is kept while there are callbacks."""
        return None if self._seen is None else self._seen()

    def end(self, error: BaseException | None = None) -> bool:
        if not self.is_ended:
            self.response = self.seen()
        return super().end(error)


def _label(exchange: Exchange, request: HttpRequest) -> bool:
    """Tell the exchange whose it is; ``False`` if another one in ``MIDDLEWARE`` has."""
    is_first = exchange.request is not request
    exchange.request = request
    return is_first


def _keys(request: HttpRequest) -> dict[str, Any]:
    holder = key_holder(request) or request.META
    # a2wsgi hands the scope of an ASGI wrapper on.
    scope = holder.get("asgi.scope")
    return scope if KEY not in holder and isinstance(scope, dict) and KEY in scope else holder


def _open(request: HttpRequest) -> tuple[_Opened, DjangoEnding]:
    if "uwsgi" in sys.modules and isinstance(request, WSGIRequest):
        # uWSGI clears that dict, and fills it for the next request.
        request.META = request.environ = {**request.environ}
    handler = handler_of(request, get_runner())
    exchange = _Opened(handler.host, request.method, request.path, current_exchange.get())
    exchange._seen = exchange.environ = None
    exchange.request = request
    _keys(request)[KEY] = exchange
    current_exchange.set(exchange)
    return exchange, DjangoEnding(exchange, handler)


def _fail(ending: DjangoEnding, error: BaseException) -> None:
    """No response: the client left while an async view ran, or the server stops."""
    current_exchange.set(ending.exchange.parent)
    if issubclass(type(error), asyncio.CancelledError):
        ending.exchange.disconnect()
    ending.end_soon(error)


def _close(
    request: HttpRequest, response: HttpResponseBase, ending: DjangoEnding
) -> HttpResponseBase:
    if not ending.handler.keeps_context:
        current_exchange.set(ending.exchange.parent)
    # A closing iterator around a file would cost the server its sendfile.
    file = getattr(response, "file_to_stream", None)
    is_file_left_alone = file is not None and "wsgi.file_wrapper" in _keys(request)
    hang_on(response, ending, is_file_left_alone=is_file_left_alone)
    return response
