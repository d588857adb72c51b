"""How each server is started on a port of its own, and how it says that it is ready."""

import json
import random
import re
import socket
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

DJANGO = "tests.servers.site.asgi:application"
ALONE = "tests.servers.site.alone:application"
"""Django without the wrapper: its middleware alone."""
BARE = "tests.servers.bare:application"
SPEAKING = "tests.servers.bare:speaking"

WRAPPER, MIDDLEWARE, WSGI = "wrapper", "middleware alone", "WSGI"
WAYS = (WRAPPER, MIDDLEWARE, WSGI)
"""The ways in: the ASGI wrapper; the Django middleware alone, under ASGI; either under WSGI."""

SETTINGS_VARIABLE = "ASYNC_AFTER_TEST_SETTINGS"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Config:
    """What a server is started with; tests with equal ones share a server.

    ``server`` is a key of ``SERVERS``. ``lifespan="off"`` where a server has
    an option for it. ``args`` and ``env`` go to its command as they are.
    """

    app: str = DJANGO
    http: str = "httptools"  # uvicorn's
    loop: str = "uvloop"  # uvicorn's
    lifespan: str = "auto"
    server: str = "uvicorn"
    workers: int = 1
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()

    def settings(self, **settings: Any) -> "Config":
        """With these in ``ASYNC_AFTER``: ``Config(...).settings(WAIT_TIMEOUT=1)``."""
        return replace(self, env=(*self.env, (SETTINGS_VARIABLE, json.dumps(settings))))

    def on(self, app: str, **more: Any) -> "Config":
        """The same with another app."""
        return replace(self, app=app, **more)

    @property
    def way(self) -> str:
        return way_through(self.server, is_wrapped=self.app != ALONE)

    def __str__(self) -> str:
        name = self.app.removeprefix("tests.servers.").removesuffix(":application")
        if self.server == "uvicorn":
            parts = [name, self.http, self.loop, self.lifespan]
        else:
            parts = [name, self.server]
            parts += [] if self.lifespan == "auto" else [self.lifespan]
        parts += [f"{self.workers}-workers"] if self.workers > 1 else []
        parts += [arg.lstrip("-") for arg in self.args]
        parts += [value for _, value in self.env]
        return "-".join(parts)


def product(app: str = DJANGO, lifespan: str = "auto") -> list[Config]:
    """Every HTTP implementation of uvicorn on every event loop."""
    return [
        Config(app, http, loop, lifespan)
        for http in ("httptools", "h11")
        for loop in ("asyncio", "uvloop")
    ]


def pair(app: str = DJANGO, lifespan: str = "auto") -> list[Config]:
    """Both HTTP implementations and both event loops, in two servers."""
    return [
        Config(app, "httptools", "uvloop", lifespan),
        Config(app, "h11", "asyncio", lifespan),
    ]


@dataclass(frozen=True)
class Command:
    """The arguments of ``python -m`` for one server (or of a program of its own).

    ``{app}``, ``{port}`` and the fields of the config are filled in. A server
    that cannot tell which port it got is given a free one.
    """

    arguments: str
    ready: str
    """What each worker writes to its log when it serves."""
    port: str | None
    """Where its log tells the port."""
    without_lifespan: tuple[str, str] | None = None
    """What to replace in the arguments so that it speaks no lifespan."""
    several: str = " --workers {workers}"
    is_module: bool = True
    """Whether ``python -m`` starts it; else it is a program next to Python."""


_UWSGI = " --home {prefix} --need-app --master --die-on-term --disable-logging"

SERVERS: Mapping[str, Command] = {
    "uvicorn": Command(
        "uvicorn {app} --host {host} --port {port} --http {http} --loop {loop}"
        " --lifespan {lifespan} --no-access-log --no-use-colors",
        ready="Started server process",
        port=r"running on http://[\d.]+:(\d+)",
        without_lifespan=("", ""),
    ),
    "hypercorn": Command(
        "hypercorn {app} --bind {host}:{port}",
        ready="Running on http://",
        port=r"Running on http://[\d.]+:(\d+)",
    ),
    "daphne": Command(
        "daphne {app} -b {host} -p {port}",
        ready="Listening on TCP address",
        port=r"Listening on TCP address [\d.]+:(\d+)",
    ),
    "granian": Command(
        "granian {app} --interface asgi --host {host} --port {port}",
        ready="Started worker-",
        port=None,
        without_lifespan=("--interface asgi ", "--interface asginl "),
    ),
    "gunicorn-uvicorn": Command(
        "gunicorn {app} -k uvicorn_worker.UvicornWorker -b {host}:{port} --no-control-socket",
        ready="Application startup complete",
        port=r"Listening at: http://[\d.]+:(\d+)",
    ),
    "gunicorn-asgi": Command(
        "gunicorn {app} -k asgi -b {host}:{port} --no-control-socket",
        ready="ASGI server listening on",
        port=r"Listening at: http://[\d.]+:(\d+)",
        without_lifespan=(" -k asgi ", " -k asgi --asgi-lifespan off "),
    ),
    # WSGI (all but ``ASGI_SERVERS``).
    "gunicorn-sync": Command(
        "gunicorn {app} -k sync -b {host}:{port} --no-control-socket",
        ready="Booting worker with pid",
        port=r"Listening at: http://[\d.]+:(\d+)",
    ),
    "gunicorn-gthread": Command(
        "gunicorn {app} -k gthread --threads 8 -b {host}:{port} --no-control-socket",
        ready="Booting worker with pid",
        port=r"Listening at: http://[\d.]+:(\d+)",
    ),
    "gunicorn-gevent": Command(
        "gunicorn {app} -k gevent -b {host}:{port} --no-control-socket",
        ready="Booting worker with pid",
        port=r"Listening at: http://[\d.]+:(\d+)",
    ),
    "waitress": Command(
        "waitress --listen={host}:{port} --threads=4 {app}",
        ready="Serving on http://",
        port=r"Serving on http://[\d.]+:(\d+)",
    ),
    "uwsgi": Command(
        "uwsgi --http-socket {host}:{port} --module {app} --enable-threads --threads 4" + _UWSGI,
        ready="spawned uWSGI worker 1 ",
        port=None,
        is_module=False,
    ),
    "uwsgi-keep-alive": Command(
        "uwsgi --http11-socket {host}:{port} --module {app} --enable-threads --threads 4" + _UWSGI,
        ready="spawned uWSGI worker 1 ",
        port=None,
        is_module=False,
    ),
    "uwsgi-threadless": Command(
        "uwsgi --http-socket {host}:{port} --module {app}" + _UWSGI,
        ready="spawned uWSGI worker 1 ",
        port=None,
        is_module=False,
    ),
    "cheroot": Command(
        "cheroot {app} --bind {host}:{port} --threads 4",
        ready="",
        port=None,
    ),
    "granian-wsgi": Command(
        "granian {app} --interface wsgi --host {host} --port {port} --blocking-threads 4",
        ready="Started worker-",
        port=None,
    ),
    "hypercorn-wsgi": Command(
        "hypercorn wsgi:{app} --bind {host}:{port}",
        ready="Running on http://",
        port=r"Running on http://[\d.]+:(\d+)",
    ),
    "runserver": Command(
        "tests.wsgi.manage {app} runserver --noreload {host}:{port}",
        ready="",  # it stays in a buffer
        port=None,
    ),
    "mod_wsgi": Command(
        "tests.wsgi.express {app} {host} {port}",
        ready="resuming normal operations",
        port=None,
    ),
}


ASGI_SERVERS = ("uvicorn", "hypercorn", "daphne", "granian", "gunicorn-uvicorn", "gunicorn-asgi")


def way_through(server: str, *, is_wrapped: bool) -> str:
    """Through which a request comes in; ``""`` where none does (a test client)."""
    if server not in SERVERS:
        return ""
    if server not in ASGI_SERVERS:
        return WSGI
    return WRAPPER if is_wrapped else MIDDLEWARE


class Launch:
    """One start of a server: its command, and what to make of its log."""

    def __init__(self, config: Config) -> None:
        self._command = command = SERVERS[config.server]
        self._workers = config.workers
        self._free_port = 0 if command.port is not None else free_port()
        text = command.arguments
        if config.lifespan == "off":
            if command.without_lifespan is None:
                raise ValueError(f"{config.server} cannot be told to speak no lifespan")
            text = text.replace(*command.without_lifespan)
        if config.workers > 1:
            text += command.several
        fields = {"host": HOST, "port": self._free_port, "prefix": sys.prefix, **vars(config)}
        words = [*text.format(**fields).split(), *config.args]
        if command.is_module:
            self.arguments = [sys.executable, "-m", *words]
        else:
            self.arguments = [str(Path(sys.executable).with_name(words[0])), *words[1:]]

    def port(self, log: str) -> int | None:
        """The port, as soon as all workers serve it."""
        if log.count(self._command.ready) < self._workers:
            return None
        port = self._free_port
        if self._command.port is not None:
            match = re.search(self._command.port, log)
            port = 0 if match is None else int(match[1])
        return port if port and _accepts(port) else None


def free_port() -> int:
    """Below those that the system gives to clients, so that no connection takes it."""
    for port in random.sample(range(15_000, 30_000), 100):
        with closing(socket.socket()) as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True
