"""Exchanges without a server, for what is measured in process.

``Exchange`` is not public and has moved. It is looked for in both places, so that this
code measures older packages too (``--before``).
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .idle import HEADERS

_CORE = "async_after._core" if find_spec("async_after._core") else "async_after"
_exchange = import_module(f"{_CORE}.exchange")
current_exchange = _exchange.current_exchange


def complete_exchange(dispatcher: Any) -> Any:
    """One whose response is complete."""
    exchange = _exchange.Exchange(dispatcher, "GET", "/orders/1042/")
    exchange.start(200, HEADERS)
    exchange.body(13, completes=True)
    return exchange
