"""The same as a bare WSGI app."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from async_after.wsgi import AfterResponseMiddleware

from ..events import ident_of, record
from ..gates import Gate
from .wanted import Wanted


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    ident = ident_of(environ["PATH_INFO"])
    wanted = Wanted.by(environ["QUERY_STRING"])
    wanted.register(ident)
    record("asked", ident)
    if wanted.gate == "before":
        Gate(ident).wait_in_thread()
    start_response("200 OK", wanted.headers())
    return [] if wanted.sizes == (0,) else _parts(ident, wanted)


def _parts(ident: str, wanted: Wanted) -> Iterator[bytes]:
    for number, part in enumerate(wanted.parts(), 1):
        if number > 1:
            time.sleep(wanted.pause)
        if number == 2 and wanted.gate == "middle":
            Gate(ident).wait_in_thread()
        yield part


application = AfterResponseMiddleware(app)
