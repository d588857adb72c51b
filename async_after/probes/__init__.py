"""What a server shows of the connection behind a response, one module per server.

These are private doors of the servers: each is opened in one function. A probe
costs nothing until somebody asks for an outcome; one that fails says HANDED.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..delivery import Connection


def of_send(send: Callable[[Any], Awaitable[None]]) -> Connection | None:
    """The connection behind an ASGI server's ``send``; ``None`` where it shows none."""
    return None


def of_environ(environ: Mapping[str, Any]) -> Connection | None:
    """The connection behind a WSGI server's environ; ``None`` where it shows none."""
    return None
