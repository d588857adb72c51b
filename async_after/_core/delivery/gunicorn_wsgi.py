"""gunicorn's WSGI workers (sync, gthread, gevent), HTTP/1 without TLS."""

import sys
from collections.abc import Mapping
from typing import Any

from .connections import by_socket
from .levels import Connection


def of_gunicorn(environ: Mapping[str, Any]) -> Connection | None:
    """They write each part with ``sendall``, and the last chunk before ``close()``."""
    if sys.exception() is not None:
        # It passes by: a part of the body, or a file, was not written to its end.
        return None
    socket = environ["gunicorn.socket"]
    is_http2 = "gunicorn.http2.send_trailers" in environ
    has_tls = hasattr(socket, "selected_alpn_protocol")
    return None if is_http2 or has_tls else by_socket(socket.fileno())
