"""The ways in which a request passes the Django middleware, in process.

Django's handlers with the middleware alone and with a wrapper outside, under
ASGI and WSGI, without any server; and Django's test clients.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.test import AsyncClient, Client

from async_after import get_runner
from async_after.asgi import AfterResponseMiddleware as ASGIWrapper
from async_after.wsgi import AfterResponseMiddleware as WSGIWrapper

from .test_alone import TIMEOUT, Exchange

Way = Callable[..., Any]
Headers = Mapping[str, str]


async def drained(body: bytes) -> bytes:
    """Of a response whose callbacks have ended."""
    await get_runner().drain(TIMEOUT)
    return body


async def asgi_alone(path: str, headers: Headers | None = None) -> bytes:
    return await _asgi(get_asgi_application(), path, headers)


async def asgi_wrapped(path: str, headers: Headers | None = None) -> bytes:
    return await _asgi(ASGIWrapper(get_asgi_application(), hold=False), path, headers)


async def _asgi(app: Any, path: str, headers: Headers | None) -> bytes:
    exchange = Exchange(*path.split("?"))
    exchange.scope["headers"] += [
        (name.lower().encode(), value.encode()) for name, value in (headers or {}).items()
    ]
    # In a task, and so in a context, of its own, as servers do.
    await asyncio.create_task(exchange.run(app))
    return await drained(b"".join(message.get("body", b"") for message in exchange.sent))


async def wsgi_alone(path: str, headers: Headers | None = None) -> bytes:
    return await _wsgi(get_wsgi_application(), path, headers)


async def wsgi_wrapped(path: str, headers: Headers | None = None) -> bytes:
    return await _wsgi(WSGIWrapper(get_wsgi_application()), path, headers)


async def wsgi_inline(path: str, headers: Headers | None = None) -> bytes:
    return await _wsgi(WSGIWrapper(get_wsgi_application(), lane="inline"), path, headers)


async def _wsgi(app: Any, path: str, headers: Headers | None) -> bytes:
    return await drained(await asyncio.to_thread(_serve, app, path, headers or {}))


def _serve(app: Any, path: str, headers: Headers) -> bytes:
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ["PATH_INFO"], _, environ["QUERY_STRING"] = path.partition("?")
    for name, value in headers.items():
        environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
    body: Iterable[bytes] = app(environ, lambda status, headers, exc_info=None: None)
    try:
        return b"".join(body)
    finally:
        close: Callable[[], None] = getattr(body, "close", lambda: None)
        close()


async def client(path: str, headers: Headers | None = None) -> bytes:
    def get() -> bytes:
        response: Any = Client(raise_request_exception=False).get(path, headers=headers)
        try:
            return b"".join(response)
        finally:
            if response.streaming:  # the others it has closed itself
                response.close()

    return await drained(await asyncio.to_thread(get))


async def async_client(path: str, headers: Headers | None = None) -> bytes:
    response: Any = await AsyncClient(raise_request_exception=False).get(path, headers=headers)
    if response.streaming:
        return await drained(b"".join([part async for part in response]))
    return await drained(response.content)


SERVERS: list[Way] = [asgi_alone, asgi_wrapped, wsgi_alone, wsgi_wrapped]
CLIENTS: list[Way] = [client, async_client]

ALL = pytest.mark.parametrize("way", [*SERVERS, wsgi_inline, *CLIENTS])
WITH_THREADS = pytest.mark.parametrize("way", SERVERS)
"""Those where plain callbacks have threads of their own."""
