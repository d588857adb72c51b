"""The server matrix: its rows, its columns, and what a server makes impossible.

A test takes part with ``@EVERY_ROW`` (or ``rows(...)``), which gives it a
``row`` and the ``server`` of that row, and ``@pytest.mark.matrix("column")``.
Several tests may share a column: a cell holds if all of them pass. What
cannot hold stands in ``LIMITS``; there the test asks ``row.can("column")``
and asserts what happens instead, so that no limit outlives its server.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from .launch import ALONE, DJANGO, Config

WRAPPED = "wrapped"
HELD = "held"
ALONE_MODE = "alone"

MODES: Mapping[str, str] = {
    WRAPPED: "`async_after.asgi.AfterResponseMiddleware` around the app, the server's lifespan on",
    HELD: "the same without lifespan: the ASGI coroutine stays until the callbacks have ended",
    ALONE_MODE: "`async_after.django.AfterResponseMiddleware` in `MIDDLEWARE`, no wrapper",
}

COLUMNS: Mapping[str, str] = {
    "order": "the server accepts the last message, then callbacks start, and the client has it all",
    "empty": "the same for HEAD, 204 and 304",
    "length": "a stream with Content-Length: SENT, even if its last message never comes",
    "close": "chunked with `Connection: close`: SENT, and the connection ends while callbacks run",
    "slow": "a client that does not read: no callback before the server has accepted it all",
    "FIN": "the client closes after the response: SENT, callbacks complete",
    "RST": "the client resets after the response: SENT, callbacks complete",
    "half": "the client half-closes after the response: SENT, callbacks complete",
    "abort": "the client leaves in mid-stream: DISCONNECTED, callbacks complete",
    "view": "the client leaves while the view runs: DISCONNECTED, callbacks complete",
    "long": "callbacks outlive the server's patience with the app (gunicorn: 3 s, daphne: 10 s)",
    "20": "20 requests on one connection are answered while the callbacks of all of them run",
    "pipeline": "5 pipelined requests are answered while the callbacks of all of them run",
    "h2": "two HTTP/2 streams do not wait for callbacks; a reset stream is DISCONNECTED",
    "limit": "running callbacks do not count for the server's limit of concurrent requests",
    "raises": "a callback that fails leaves the next response on its connection alone",
    "SIGTERM": "100 callbacks of 2 s that run at SIGTERM complete, with default settings",
    "Ctrl-C": "callbacks that run at SIGINT complete",
    "named": "what `wait_timeout` and `close_timeout` leave no time for is named in the log",
    "recycle": "callbacks complete when the server replaces its worker (`--max-requests`)",
}


@dataclass(frozen=True)
class Row:
    server: str
    mode: str
    config: Config = field(compare=False)

    def __str__(self) -> str:
        return f"{self.server}-{self.mode}".replace(" ", "-")

    def can(self, column: str) -> bool:
        return self.why_not(column) is None

    def why_not(self, column: str) -> str | None:
        """Why the server cannot do what the column promises."""
        return reason(self.config.server, self.mode, column)


def _rows() -> Iterable[Row]:
    servers = {
        "uvicorn httptools": Config(),
        "uvicorn h11": Config(http="h11", loop="asyncio"),
        "uvicorn 2 workers": Config(workers=2),
        "hypercorn": Config(server="hypercorn"),
        "daphne": Config(server="daphne"),
        "granian": Config(server="granian"),
        "gunicorn uvicorn": Config(server="gunicorn-uvicorn"),
        "gunicorn asgi": Config(server="gunicorn-asgi"),
    }
    for name, config in servers.items():
        # daphne never speaks lifespan.
        yield Row(name, HELD if name == "daphne" else WRAPPED, config.on(DJANGO))
        if name in ("uvicorn httptools", "granian", "gunicorn asgi"):
            yield Row(name, HELD, config.on(DJANGO, lifespan="off"))
        yield Row(name, ALONE_MODE, config.on(ALONE))


ROWS = tuple(_rows())


def one_row_per_server(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The first one of each."""
    found = {row.config.server: row for row in reversed(rows)}
    return (*reversed(found.values()),)


def one_row_per_mode(server: str, rows: Sequence[Row]) -> tuple[Row, ...]:
    """The first one of this server in each mode."""
    found = {row.mode: row for row in reversed(rows) if row.config.server == server}
    return (*reversed(found.values()),)


EVERY_SERVER = one_row_per_server(ROWS)
EVERY_MODE = one_row_per_mode("uvicorn", ROWS)
"""For the first hour."""


def rows(wanted: Callable[[Row], bool] = lambda row: True) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", [*filter(wanted, ROWS)], ids=str)


EVERY_ROW = rows()


def rows_with(options: Mapping[str, tuple[str, ...]]) -> pytest.MarkDecorator:
    """The rows of these servers (as ``Config.server``), started with more options."""
    chosen = [row for row in ROWS if row.config.server in options]
    return pytest.mark.parametrize(
        ("row", "config"),
        [(row, replace(row.config, args=options[row.config.server])) for row in chosen],
        ids=map(str, chosen),
    )


def row_of(config: Config) -> Row | None:
    """The row that a server belongs to, whatever else it was started with."""
    bare = replace(config, args=(), env=())
    return next((row for row in ROWS if row.config == bare), None)


@dataclass(frozen=True)
class Limit:
    """Where a server makes a promise of the matrix impossible, and why."""

    column: str
    servers: tuple[str, ...]
    """As ``Config.server``."""
    modes: tuple[str, ...]
    reason: str


LIMITS: Sequence[Limit] = (
    Limit(
        "20",
        ("gunicorn-asgi",),
        (HELD, ALONE_MODE),
        "gunicorn's worker reads no more from a connection while 16 of its requests are"
        " unfinished, and here a request is finished when its callbacks are",
    ),
    Limit(
        "close",
        ("gunicorn-asgi",),
        (HELD, ALONE_MODE),
        "gunicorn's worker closes the connection when the app has returned, and here it"
        " returns when its callbacks have ended; the response itself is complete before",
    ),
    Limit(
        "pipeline",
        ("uvicorn", "gunicorn-uvicorn", "daphne"),
        (ALONE_MODE,),
        "the server starts a pipelined request in the context of the one before it, so that"
        " Django gives both the same thread, and the middleware keeps it until the callbacks"
        " have ended (uvicorn: `--reset-contextvars` helps)",
    ),
    Limit(
        "slow",
        ("daphne",),
        (HELD, ALONE_MODE),
        "daphne accepts whatever the app sends, at once: that it has accepted a response says"
        " nothing about the client",
    ),
    Limit(
        "limit",
        ("uvicorn",),
        (HELD, ALONE_MODE),
        "uvicorn counts a request until the app has returned, and here it returns when its"
        " callbacks have ended: others get 503",
    ),
    *(
        Limit(
            column,
            ("gunicorn-asgi",),
            (HELD, ALONE_MODE),
            "without lifespan gunicorn's worker waits for its connections only, and then cancels"
            " all tasks: async callbacks are lost, and named",
        )
        for column in ("SIGTERM", "Ctrl-C")
    ),
    Limit(
        "Ctrl-C",
        ("gunicorn-asgi",),
        (WRAPPED,),
        "SIGINT is gunicorn's quick shutdown: its worker leaves `lifespan.shutdown` out and cancels"
        " all tasks: async callbacks are lost, and named",
    ),
    Limit(
        "named",
        ("uvicorn",),
        (HELD,),
        "without lifespan uvicorn tells nobody that it shuts down, and waits for the callbacks"
        " without a limit, or up to `--timeout-graceful-shutdown`",
    ),
)


def reason(server: str, mode: str, column: str) -> str | None:
    for limit in LIMITS:
        if limit.column == column and server in limit.servers and mode in limit.modes:
            return limit.reason
    return None
