"""uWSGI: its own HTTP sockets, or the uwsgi protocol behind a proxy, by TCP.

It writes each part before it asks for the next one, without a buffer of its own,
unless it is told to change or to offload what it sends.
"""

import sys
from collections.abc import Mapping
from typing import Any

from .connections import THROWN_AWAY, in_kernel
from .levels import Connection

_OFFLOADED = {"async", "asyncio", "gevent", "greenlet", "offload-threads"}
_WRAPPED = {"fastcgi-socket", "https-socket"}
_SHARED = {"http11-socket"}
"""With these options a response is not written there and then, not as it is, or behind
those before it on the connection."""


def of_uwsgi(environ: Mapping[str, Any]) -> Connection | None:
    """The descriptor belongs to the request, in this thread, as long as it runs.

    uWSGI goes on without a word when a client has gone, and gives up one that does not
    read for 4 seconds (``socket-timeout``): then less was written than the app has made.
    """
    uwsgi: Any = sys.modules["uwsgi"]
    options = {option.decode() if isinstance(option, bytes) else option for option in uwsgi.opt}
    if options & (_OFFLOADED | _WRAPPED | _SHARED) or any("route" in option for option in options):
        return None
    descriptor = environ["wsgi.input"].fileno()
    # In another thread that raises, or tells of the request that is there.
    if descriptor != uwsgi.connection_fd():
        return None
    exchange = environ["async_after.exchange"]
    made: int = 0 if exchange.is_bodiless else exchange.body_bytes
    try:
        return in_kernel(descriptor, at_least=1 + made)
    except ValueError:
        return THROWN_AWAY
