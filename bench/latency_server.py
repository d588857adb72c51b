"""An ASGI server for ``latency``, and the client that measures it."""

import argparse
import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import servers
from .asgi_servers import DATABASE, SERVERS
from .latency_measure import Http1, Http2, Shape


def label(server: str, app: str, shape: Shape) -> str:
    """For titles and names of figures."""
    return f"{server.replace('-', ' ')}{'' if app == 'django' else ', bare app'}{shape.name}"


@contextlib.contextmanager
def client_of(
    name: str, args: argparse.Namespace, directory: Path | None = None
) -> Iterator[Http1 | Http2]:
    """Of a server that imports from ``directory`` first, while it runs."""
    server = SERVERS[name].at(name, f"bench.apps:{args.app}_app")
    with (
        _database() as path,
        servers.running(
            server, pin=args.pin, environment={DATABASE: str(path)}, directory=directory
        ) as port,
        contextlib.closing((Http2 if SERVERS[name].is_http2 else Http1)(port)) as client,
    ):
        yield client


@contextlib.contextmanager
def _database() -> Iterator[Path]:
    """A SQLite file for the app, with the table that callbacks write to."""
    with tempfile.TemporaryDirectory(prefix="async-after-latency-") as directory:
        path = Path(directory) / "written.sqlite3"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE written (at REAL)")
        yield path
