"""A WSGI app for servers that are killed by SIGTERM: ``DRAIN`` makes it wait for callbacks first.

``python -m tests.wsgi.drained SERVER PORT`` serves it.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from async_after import Runner, after_response
from async_after.wsgi import AfterResponseMiddleware, drain_on_sigterm

from ..servers.events import ident_of, record
from ..servers.gates import Gate


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    ident = ident_of(environ["PATH_INFO"])
    if "forever" in environ["PATH_INFO"]:
        after_response(threading.Event().wait)
    after_response(block, ident)
    after_response.using(concurrent=True)(suspend, ident)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def block(ident: str) -> None:
    record("start", ident, kind="plain")
    Gate(ident).wait_in_thread()
    record("end", ident, kind="plain")


async def suspend(ident: str) -> None:
    record("start", ident, kind="async")
    await Gate(ident).wait()
    record("end", ident, kind="async")


def set_up() -> None:
    how = os.environ.get("DRAIN")
    if how == "handled":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    elif how == "thread":
        thread = threading.Thread(target=lambda: record("drains", "r", done=drain_on_sigterm()))
        thread.start()
        thread.join()
        return
    if how is not None:
        record("drains", "r", done=drain_on_sigterm())


def waitress(port: int) -> None:
    from waitress.server import create_server  # type: ignore[import-untyped]

    create_server(application, host="127.0.0.1", port=port).run()


def cheroot(port: int) -> None:
    from cheroot.wsgi import Server

    Server(("127.0.0.1", port), application).start()


def wsgiref(port: int) -> None:
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", port, application).serve_forever()


SERVERS: dict[str, Callable[[int], None]] = {
    "waitress": waitress,
    "cheroot": cheroot,
    "wsgiref": wsgiref,
}

_runner = Runner(wait_timeout=float(os.environ.get("WAIT_TIMEOUT", "20")), close_timeout=0.1)
application = AfterResponseMiddleware(app, runner=_runner)

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    set_up()
    SERVERS[sys.argv[1]](int(sys.argv[2]))
