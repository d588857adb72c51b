"""The WSGI server matrix: its rows, its columns, and what a server makes impossible.

As ``tests/servers/matrix.py`` does it for ASGI: a test takes part with ``@EVERY_ROW``
(or ``rows(...)``) and ``@pytest.mark.matrix("column")``; where ``row.can("column")`` is
false it asserts what happens instead.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from ..required import is_required
from ..servers import matrix
from ..servers.launch import Config
from ..servers.report import Matrix
from .express import KEEP_RIGHTS

WRAPPED = "wrapped"
ALONE = "alone"
INLINE = "inline"
INLINE_ALONE = "inline alone"

MODES: Mapping[str, str] = {
    WRAPPED: '`async_after.wsgi.AfterResponseMiddleware` around Django, lane `"threads"`',
    ALONE: '`async_after.django.AfterResponseMiddleware` in `MIDDLEWARE`, lane `"threads"`',
    INLINE: 'wrapped, lane `"inline"`: callbacks run in `close()`, in the server\'s thread',
    INLINE_ALONE: "the same with Django's middleware alone",
}

COLUMNS: Mapping[str, str] = {
    "order": "the server calls `close()`, then callbacks start, first-in, first-out",
    "error": "an app or a stream that raises: callbacks run when the server has the error",
    "body": "with Content-Length: the client has the body while callbacks run",
    "stream": "without Content-Length (chunked, or up to EOF): the same",
    "empty": "204 and HEAD: the same",
    "next": "the next request on the connection is answered while callbacks run",
    "EOF": "`Connection: close`, and HTTP/1.0: the connection ends while callbacks run",
    "worker": "other clients are served while more callbacks run than the server has threads",
    "disconnect": "the client resets in mid-stream: DISCONNECTED, callbacks complete",
    "RST": "the client resets after the response: SENT, callbacks complete",
    "isolated": "a callback that raises is named in the log, and nothing else notices",
    "SystemExit": "the same for a callback that raises SystemExit",
    "request": "a callback finds its own request as it was, while others are answered",
    "async ORM": "a coroutine function may use it (it goes through `sync_to_async`)",
    "file": "20 MB by `wsgi.file_wrapper`: the server gets the file as it is, callbacks after it",
    "SIGTERM": "callbacks that run and wait at SIGTERM complete, with default settings",
}


def why_missing(name: str) -> str | None:
    """Of the servers that need more than Python: why this one is not here."""
    if name == "uwsgi" and not Path(sys.executable).with_name("uwsgi").exists():
        return "uWSGI is not installed (a C compiler builds it)"
    if name == "mod_wsgi":
        if find_spec("mod_wsgi") is None:
            return "mod_wsgi is not installed (it is built with apache2-dev)"
        if os.geteuid() == 0 and not _may_keep_rights():
            return "we are root, Apache refuses that, and setpriv cannot help"
    return None


@cache
def _may_keep_rights() -> bool:
    """Whether ``express`` can start Apache as root."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return False
    tried = subprocess.run([setpriv, *KEEP_RIGHTS, "true"], capture_output=True, check=False)
    return tried.returncode == 0


@dataclass(frozen=True)
class Row(matrix.Row):
    @property
    def is_inline(self) -> bool:
        return self.mode in (INLINE, INLINE_ALONE)

    @property
    def needs(self) -> str | None:
        """The marker of a server that needs more than Python."""
        server = self.config.server
        return (
            "uwsgi" if server.startswith("uwsgi") else "mod_wsgi" if server == "mod_wsgi" else None
        )

    def why_not(self, column: str) -> str | None:
        for limit in LIMITS:
            if limit.column == column and limit.holds_for(self):
                return limit.reason
        return None


_WRAPPED_APP = "tests.wsgi.site.wrapped:application"
_ALONE_APP = "tests.wsgi.site.alone:application"


def _rows() -> Iterable[Row]:
    servers = {
        "gunicorn sync": ("gunicorn-sync", (WRAPPED, ALONE, INLINE)),
        "gunicorn gthread": ("gunicorn-gthread", (WRAPPED, ALONE, INLINE)),
        "gunicorn gevent": ("gunicorn-gevent", (WRAPPED, ALONE)),
        "waitress": ("waitress", (WRAPPED, ALONE, INLINE)),
        "uWSGI": ("uwsgi", (WRAPPED, ALONE)),
        "uWSGI without threads": ("uwsgi-threadless", (INLINE, INLINE_ALONE)),
        "cheroot": ("cheroot", (WRAPPED, ALONE)),
        "granian": ("granian-wsgi", (WRAPPED, ALONE)),
        "hypercorn": ("hypercorn-wsgi", (WRAPPED, ALONE)),
        "runserver": ("runserver", (WRAPPED, ALONE)),
        "mod_wsgi": ("mod_wsgi", (WRAPPED, ALONE)),
    }
    for name, (server, modes) in servers.items():
        for mode in modes:
            config = Config(
                _WRAPPED_APP if mode in (WRAPPED, INLINE) else _ALONE_APP, server=server
            )
            # Without threads it needs no telling.
            if mode == INLINE and server != "uwsgi-threadless":
                config = config.settings(WSGI_LANE="inline")
            yield Row(name, mode, config)


ROWS = tuple(_rows())
THREADS = {
    "gunicorn sync": 1,
    "gunicorn gthread": 8,
    "waitress": 4,
    "uWSGI without threads": 1,
}
"""What the servers of the inline rows are started with (see ``launch.SERVERS``)."""
WSGI = Matrix("WSGI server matrix", ROWS, COLUMNS, MODES)


def parameter(row: Row, *more: object) -> object:
    """With the marker of what it needs; skipped where that is missing."""
    marks = []
    if row.needs is not None:
        marks.append(getattr(pytest.mark, row.needs))
        why = why_missing(row.needs)
        if why is not None and not is_required(row.needs):
            marks.append(pytest.mark.skip(reason=why))
    return pytest.param(row, *more, marks=marks, id=str(row))


def rows(wanted: Callable[[Row], bool] = lambda row: True) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", [parameter(row) for row in ROWS if wanted(row)])


EVERY_ROW = rows()
EVERY_SERVER = matrix.one_row_per_server(ROWS)
EVERY_MODE = matrix.one_row_per_mode("gunicorn-gthread", ROWS)
"""For the first hour."""


@dataclass(frozen=True)
class Limit:
    """Where a server makes a promise of the matrix impossible, and why."""

    column: str
    servers: tuple[str, ...]
    """As ``Config.server``; none: all."""
    modes: tuple[str, ...]
    reason: str

    def holds_for(self, row: Row) -> bool:
        return row.mode in self.modes and row.config.server in (
            self.servers or (row.config.server,)
        )


_THREADS = (WRAPPED, ALONE)
_INLINE = (INLINE, INLINE_ALONE)
_EVERY = (*_THREADS, *_INLINE)

LIMITS: Sequence[Limit] = (
    *(
        Limit(
            column,
            (),
            _INLINE,
            "callbacks run in `close()`: the server's thread is theirs, and it reads the next"
            " request and ends the connection after that only",
        )
        for column in ("next", "EOF", "worker")
    ),
    Limit(
        "stream",
        ("waitress",),
        _INLINE,
        "waitress sends the last chunk after `close()`",
    ),
    Limit(
        "stream",
        ("uwsgi-threadless",),
        _INLINE,
        "uWSGI marks the end of such a body by the end of the connection, after `close()`",
    ),
    Limit(
        "empty",
        ("waitress",),
        _INLINE,
        "waitress sends the headers of a response without a body after `close()`",
    ),
    Limit(
        "disconnect",
        ("hypercorn-wsgi",),
        _EVERY,
        "hypercorn takes the whole body, whatever became of the client",
    ),
    Limit(
        "SystemExit",
        ("uwsgi-threadless",),
        _INLINE,
        "uWSGI ends a worker whose `close()` raises SystemExit, and starts another: the other"
        " callbacks complete, and the next request is served",
    ),
    Limit(
        "async ORM",
        ("gunicorn-gevent",),
        _EVERY,
        "a loop in a greenlet would make Django refuse the ORM in every view, so it has a native"
        " thread, and the database connections belong to greenlets: an error says so",
    ),
    Limit(
        "file",
        ("cheroot", "granian-wsgi", "hypercorn-wsgi"),
        _EVERY,
        "the server has no `wsgi.file_wrapper`: Django reads the file itself",
    ),
    Limit(
        "SIGTERM",
        ("waitress", "cheroot", "runserver"),
        _EVERY,
        "the server leaves SIGTERM alone, which ends the process at once: callbacks are lost"
        " without a word (`drain_on_sigterm` helps)",
    ),
    Limit(
        "SIGTERM",
        ("uwsgi-threadless",),
        _INLINE,
        "uWSGI ends a worker that is in `close()` at once, without its exit handlers: callbacks"
        " are lost without a word",
    ),
)
