"""The ASGI servers that are measured, with their defaults as far as may be."""

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from .servers import Server, free_port

DATABASE = "ASYNC_AFTER_BENCH_DATABASE"
"""The environment variable that names the SQLite file of the app, with its table ``written``."""


@dataclass(frozen=True, slots=True)
class AsgiServer:
    command: str
    """The arguments of ``python -m``; ``{app}`` and ``{port}`` are filled in."""
    ready: str | None
    """Where its log tells the port; ``None``: it is given one."""
    needs: tuple[str, ...]
    """Modules."""
    is_http2: bool = False

    @property
    def is_installed(self) -> bool:
        return all(importlib.util.find_spec(module) is not None for module in self.needs)

    def at(self, name: str, application: str) -> Server:
        """``application``: ``module:name``."""
        port = free_port() if self.ready is None else 0
        words = self.command.format(app=application, port=port).split()
        return Server(
            name=name.replace("-", " "),
            command=[sys.executable, "-m", *words],
            ready=self.ready or r"(?!)",
            fixed_port=port or None,
        )


def _uvicorn(http: str, loop: str) -> AsgiServer:
    return AsgiServer(
        f"uvicorn {{app}} --port {{port}} --http {http} --loop {loop} --no-access-log"
        " --no-use-colors",
        r"running on http://[\d.]+:(\d+)",
        ("uvicorn", http, *(["uvloop"] if loop == "uvloop" else [])),
    )


_HYPERCORN = AsgiServer(
    "hypercorn {app} --bind 127.0.0.1:{port}", r"Running on http://[\d.]+:(\d+)", ("hypercorn",)
)
_GRANIAN = AsgiServer(
    "granian {app} --interface asgi --host 127.0.0.1 --port {port}", None, ("granian",)
)
_GUNICORN = "gunicorn {app} -b 127.0.0.1:{port} --no-control-socket --keep-alive 30 -k"
_LISTENING = r"Listening at: http://[\d.]+:(\d+)"
_GUNICORN_ASGI = AsgiServer(f"{_GUNICORN} asgi", _LISTENING, ("gunicorn",))


def _http2(server: AsgiServer, options: str = "") -> AsgiServer:
    return AsgiServer(server.command + options, server.ready, (*server.needs, "h2"), is_http2=True)


SERVERS: Mapping[str, AsgiServer] = {
    "uvicorn-httptools": _uvicorn("httptools", "asyncio"),
    "uvicorn-h11": _uvicorn("h11", "asyncio"),
    "uvicorn-httptools-uvloop": _uvicorn("httptools", "uvloop"),
    "uvicorn-h11-uvloop": _uvicorn("h11", "uvloop"),
    "hypercorn": _HYPERCORN,
    "hypercorn-h2": _http2(_HYPERCORN),
    "granian": _GRANIAN,
    "granian-h2": _http2(_GRANIAN),
    "daphne": AsgiServer(
        "daphne {app} -b 127.0.0.1 -p {port}",
        r"Listening on TCP address [\d.]+:(\d+)",
        ("daphne",),
    ),
    "gunicorn-uvicorn": AsgiServer(
        f"{_GUNICORN} uvicorn_worker.UvicornWorker", _LISTENING, ("gunicorn", "uvicorn_worker")
    ),
    "gunicorn-asgi": _GUNICORN_ASGI,
    "gunicorn-asgi-h2": _http2(
        _GUNICORN_ASGI, " --http-protocols h2,h1 --http2-cleartext prior-knowledge"
    ),
}
JUDGED = (
    "uvicorn-httptools",
    "hypercorn",
    "granian",
    "daphne",
    "gunicorn-uvicorn",
    "gunicorn-asgi",
)
"""Those that the aim is judged on."""
