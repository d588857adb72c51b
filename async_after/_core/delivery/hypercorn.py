"""hypercorn on asyncio, HTTP/1."""

from typing import Any

from .connections import by_transport
from .levels import Connection


def of_stream(send: Any) -> Connection | None:
    """``send`` is a method of the response's ``HTTPStream``.

    Nothing there tells whether a complete response was thrown away: the stream is
    closed in both cases.
    """
    stream = send.__self__
    protocol = stream.send.__self__
    if type(protocol).__name__ != "H11Protocol" or stream.state.name != "CLOSED":
        return None
    # The stream of a later request: it may have been answered already.
    if protocol.stream is not None:
        return None
    server = protocol.send.__self__
    return by_transport(server.writer.transport, server.loop)
