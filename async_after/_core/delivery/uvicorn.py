"""uvicorn, httptools and h11; gunicorn with uvicorn's worker too."""

from typing import Any

from .connections import THROWN_AWAY, by_transport
from .levels import Connection


def of_cycle(send: Any) -> Connection | None:
    """``send`` is a method of the response's ``RequestResponseCycle``."""
    cycle = send.__self__
    if cycle.disconnected:
        # Set only if the connection was lost before the last message was taken;
        # from then on ``send`` takes all and drops it.
        return THROWN_AWAY if _lacks_bytes(cycle) else None
    protocol = cycle.transport.get_protocol()
    # A later request makes another cycle, and may have been answered already.
    if not cycle.response_complete or protocol.cycle is not cycle:
        return None
    return by_transport(cycle.transport, protocol.loop)


def _lacks_bytes(cycle: Any) -> bool:
    """Whether it is sure that the response was not complete, even without its last
    message (Content-Length). h11 forgets how far it got when the connection is lost."""
    if not cycle.response_started:
        return True
    is_h11 = hasattr(cycle, "conn")
    return not is_h11 and (cycle.chunked_encoding or cycle.expected_content_length > 0)
