"""``response_finished`` leaves nothing behind: request, response and exchange are dropped."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.http import HttpRequest

from async_after._core.exchange import Exchange, current_exchange

from . import ways
from .receivers import connected
from .test_alone import TIMEOUT
from .ways import Way

# Each stream goes through handlers of both kinds.
pytestmark = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")


async def gone(found: list[weakref.ref[Any]], collect: Callable[[], object]) -> None:
    """Wait until they are: the thread that has run a receiver may be on its way still."""
    async with asyncio.timeout(TIMEOUT):
        while any(reference() is not None for reference in found):
            collect()
            await asyncio.sleep(0.005)


@pytest.fixture
def without_logs() -> Iterator[None]:
    """What a test captures keeps requests and tracebacks."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("without_logs")
@pytest.mark.parametrize("way", [*ways.SERVERS, ways.wsgi_inline])
@pytest.mark.parametrize("path", ["/sync", "/async", "/stream", "/file", "/fails"])
async def test_request_response_and_exchange_are_collected(way: Way, path: str) -> None:
    found: list[weakref.ref[Any]] = []

    def hear(request: HttpRequest, response: Any, **kwargs: Any) -> None:
        exchange = current_exchange.get()
        assert isinstance(exchange, Exchange)
        found.extend(map(weakref.ref, (request, response, exchange)))

    async def ahear(request: HttpRequest, response: Any, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        hear(request, response)

    with connected(hear, ahear):
        await way(path)
    assert len(found) == 6
    await gone(found, gc.collect)


@pytest.mark.usefixtures("without_logs")
@pytest.mark.parametrize("way", [ways.wsgi_alone, ways.wsgi_wrapped, ways.wsgi_inline])
async def test_they_are_in_no_cycle(way: Way) -> None:
    """Where Django leaves them in none itself: not those that fail either."""
    found: list[weakref.ref[Any]] = []

    def hear(request: HttpRequest, response: Any, **kwargs: Any) -> None:
        found.extend(map(weakref.ref, (request, response, current_exchange.get())))
        raise LookupError("a receiver that raises")

    gc.disable()
    try:
        with connected(hear, lambda **_: None):
            await way("/sync")
        assert len(found) == 3
        await gone(found, lambda: None)
    finally:
        gc.enable()
