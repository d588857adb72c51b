"""gunicorn's own ASGI worker, HTTP/1."""

from typing import Any

from .connections import THROWN_AWAY, by_transport
from .levels import Connection


def of_closure(send: Any) -> Connection | None:
    """``send`` is a closure of ``ASGIProtocol._handle_http_request``."""
    if send.__qualname__ != "ASGIProtocol._handle_http_request.<locals>.send":
        return None  # HTTP/2
    cells = dict(zip(send.__code__.co_freevars, send.__closure__, strict=True))
    found = {name: cells[name].cell_contents for name in _NAMES}
    protocol = found["self"]
    if not found["response_complete"]:
        # Once the connection is lost ``send`` takes all and drops it.
        return THROWN_AWAY if protocol._closed and not _has_all_bytes(found) else None
    # A later request: it may have been answered already.
    if protocol._current_request not in (None, found["request"]):
        return None
    return by_transport(protocol.transport, protocol.worker.loop)


_NAMES = ("self", "request", "response_complete", "response_length", "response_sent")


def _has_all_bytes(found: dict[str, Any]) -> bool:
    """Whether the response was complete without its last message (Content-Length).
    The headers go with the first bytes of the body."""
    sent: int = found["response_sent"]
    return sent > 0 and sent == found["response_length"]
