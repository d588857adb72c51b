"""What a server shows of the connection behind a response, one module per server.

These are private doors of the servers: each is opened in one function, and only
of the very code it was written for. A probe costs nothing until somebody asks
for an outcome; one that does not find what it expects says HANDED.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .gunicorn_asgi import of_closure
from .gunicorn_wsgi import of_gunicorn
from .hypercorn import of_stream
from .levels import Connection
from .uvicorn import of_cycle
from .uwsgi import of_uwsgi

_OF_SEND: Mapping[str, Callable[[Any], Connection | None]] = {
    "uvicorn.protocols.http.httptools_impl": of_cycle,
    "uvicorn.protocols.http.h11_impl": of_cycle,
    "hypercorn.protocol.http_stream": of_stream,
    "gunicorn.asgi.protocol": of_closure,
}
"""By the module that has defined ``send``."""

_OF_ENVIRON: Mapping[str, Callable[[Any], Connection | None]] = {
    "gunicorn.socket": of_gunicorn,
    "uwsgi.version": of_uwsgi,
}
"""By a key that no other server has."""


def of_send(send: Callable[[Any], Awaitable[None]]) -> Connection | None:
    """The connection behind an ASGI server's ``send``; ``None`` where it shows none.

    In the thread of the server's loop, when the response is complete. It never raises.
    """
    try:
        probe = _OF_SEND.get(send.__module__)
        return None if probe is None else probe(send)
    except Exception:
        return None


def of_environ(environ: Mapping[str, Any]) -> Connection | None:
    """The connection behind a WSGI server's environ; ``None`` where it shows none.

    In the server's thread, inside ``close()`` of a response of which the server
    was given some part (uWSGI sends the headers after ``close()`` otherwise),
    and never later: another request may be there by then. It never raises.
    """
    try:
        for key, probe in _OF_ENVIRON.items():
            if key in environ:
                return probe(environ)
    except Exception:
        pass
    return None
