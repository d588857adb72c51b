"""Where an exchange is found: in the context, by its key on a request, or nowhere."""

from contextvars import ContextVar
from typing import Any, cast

from .exchange import Exchange
from .waiting import current_owner

current_exchange: ContextVar[Exchange | None] = cast("ContextVar[Exchange | None]", current_owner)


class inside:  # noqa: N801 -- used as a function
    """Make this the current exchange; afterwards the one before is it again.

    Not with a token: the end may come in another copy of the context. Not by ``contextlib``,
    which puts something else in the place of an exception that refuses ``__traceback__``.
    """

    __slots__ = ("_before", "_exchange")

    def __init__(self, exchange: Exchange | None) -> None:
        self._exchange = exchange

    def __enter__(self) -> None:
        self._before = current_exchange.get()
        current_exchange.set(self._exchange)

    def __exit__(self, *error: object) -> None:
        current_exchange.set(self._before)


KEY = "async_after.exchange"
"""Where the exchange hangs on an ASGI scope or a WSGI environ."""


def key_holder(request: Any) -> dict[str, Any] | None:
    """The mapping that ``KEY`` stands in: an ASGI scope or a WSGI environ, or
    that of a Django or Starlette request."""
    for holder in (request, *(getattr(request, name, None) for name in _HOLDERS)):
        if isinstance(holder, dict):
            return holder
    return None


# Django's HttpRequest has META alone; its WSGI and ASGI requests have the others too.
_HOLDERS = ("scope", "environ", "META")


class NoActiveExchange(RuntimeError):
    """``after_response`` was called where no request is being answered."""

    __module__ = "async_after"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"after_response({name}): no exchange is active here, so there is no response to run"
            " it after. In a request: wrap the application in"
            " async_after.asgi.AfterResponseMiddleware, or under WSGI in"
            " async_after.wsgi.AfterResponseMiddleware (Flask: app.wsgi_app = ...(app.wsgi_app));"
            " in Django put async_after.django.AfterResponseMiddleware first in MIDDLEWARE too:"
            " runserver and the test clients do not use asgi.py. In a plain thread: pass the"
            " request of a wrapped app, after_response.using(request=request). In a command,"
            " worker or shell: use 'with exchange_scope():'. A WebSocket opens no"
            " exchange: use exchange_scope() there too."
        )
