"""Between the server and the wrapper: when did the server close the response, and
what did it get?

It hides nothing from the server: the body goes through as the object it is, and
only its ``close`` is patched (of a file, that of the file inside).
"""

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..servers.events import ident_of, record

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Recorder:
    def __init__(self, app: App) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        ident = ident_of(environ["PATH_INFO"])
        made: list[object] = []
        wrapper: Any = environ.get("wsgi.file_wrapper")

        def wrap(file: Any, *args: Any) -> Any:
            _patch(file, ident)
            made.append(wrapper(file, *args))
            return made[-1]

        # A server with a class may ask for `isinstance` of it; others take what their
        # function has made, which is a file or cannot be patched.
        is_class = isinstance(wrapper, type)
        if wrapper is not None and not is_class:
            environ["wsgi.file_wrapper"] = wrap
        try:
            body: Any = self.app(environ, start_response)
        except BaseException as error:
            record("raised", ident, error=type(error).__name__)
            raise
        finally:
            if wrapper is not None:
                environ["wsgi.file_wrapper"] = wrapper
        kept = isinstance(body, wrapper) if is_class else any(file is body for file in made)
        record("returned", ident, kept=kept, file_wrapper=wrapper is not None)
        if not made:
            _patch(body, ident)
        return body  # type: ignore[no-any-return]


def _patch(closed: Any, ident: str) -> None:
    try:
        closed.close = partial(_close, getattr(closed, "close", None), ident)
    except AttributeError:  # mod_wsgi's files do not let us
        _patch(closed.filelike, ident)


def _close(close: Callable[[], object] | None, ident: str) -> None:
    record("closing", ident)
    if close is not None:
        close()
    record("closed", ident)


def record_sendfile() -> None:
    """What the server sends by sendfile(2); ``socket.sendfile`` calls it here."""
    sendfile = os.sendfile

    def recording(*args: Any, **more: Any) -> int:
        sent = sendfile(*args, **more)
        record("sendfile", "process", size=sent)
        return sent

    os.sendfile = recording
