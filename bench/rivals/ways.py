"""The ways under test: what each is called, where its app is, and what it needs."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from .work import Kind

DJANGO = "bench.rivals.apps.django_app:application"
BOTH: tuple[Kind, ...] = ("async", "sync")
REDIS = ("redis-server", "valkey-server")
DB_WORKERS = 4
"""Processes; each does one task at a time."""
CELERY_CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class Way:
    """One way of doing work after the response. How its documentation wants it used is said, with
    the address, where its app is."""

    name: str
    """In the environment, and in the names of figures."""
    title: str
    packages: tuple[str, ...] = ("Django",)
    """What it is made of; their versions are printed, and it needs them all."""
    kinds: tuple[Kind, ...] = BOTH
    """Of work that it can do."""
    app: str = DJANGO
    is_inline: bool = False
    """The view does the work itself: there is no registration apart from it."""
    workers: str | None = None
    """Who does it, if not the server's process: ``db_worker`` or ``celery``."""
    note: str | None = None
    """How it was judged, or what its row owes to."""

    @property
    def is_ours(self) -> bool:
        return self.name.startswith("async_after")

    @property
    def versions(self) -> str:
        return ", ".join(f"{package} {version(package)}" for package in self.packages)

    def why_left_out(self) -> str | None:
        for package in self.packages:
            try:
                version(package)
            except PackageNotFoundError:
                return f"{package} is not installed"
        needs_tasks = self.name in ("immediate", "django-tasks-inprocess", "django-tasks-db")
        if needs_tasks and int(version("Django").partition(".")[0]) < 6:
            return f"django.tasks came with Django 6, this is {version('Django')}"
        if self.workers == "celery" and redis() is None:
            return f"no Redis can be started: neither {' nor '.join(REDIS)} is on the PATH"
        return None


WAYS: Sequence[Way] = (
    Way("nothing", "nothing", kinds=("none",)),
    Way("awaited", "awaited in the view", is_inline=True),
    Way("middleware", "Django middleware, after get_response"),
    Way(
        "request_finished",
        "request_finished signal",
        note="one queue for the process, emptied at the end of each request",
    ),
    Way("close-override", "HttpResponse.close() override", kinds=("sync",)),
    Way("resource-closers", "_resource_closers", kinds=("sync",)),
    Way(
        "create_task-dropped",
        "create_task, no reference",
        kinds=("async",),
        note="the garbage collector may take such a task; these sleep, and their timers hold them",
    ),
    Way("create_task-kept", "create_task, reference kept", kinds=("async",)),
    Way("thread", "a thread per call", kinds=("sync",)),
    Way("in-send", "awaited in the wrapped send"),
    Way("after-app", "awaited after the app, in a wrapper"),
    Way(
        "starlette",
        "Starlette BackgroundTasks",
        ("Starlette",),
        app="bench.rivals.apps.starlette_app:application",
    ),
    Way(
        "asgi-background",
        "asgi-background",
        ("asgi-background", "Starlette"),
        kinds=("async",),
        app="bench.rivals.apps.starlette_app:application",
    ),
    Way(
        "django-after-response",
        "django-after-response",
        ("django-after-response", "Django"),
        kinds=("sync",),
        note="one queue for the process, emptied at the end of each request",
    ),
    Way("immediate", "django.tasks ImmediateBackend", is_inline=True),
    Way(
        "django-tasks-inprocess",
        "django-tasks-inprocess",
        ("django-tasks-inprocess", "Django"),
        note="plain functions are enqueued by plain views",
    ),
    Way(
        "quart",
        "Quart add_background_task",
        ("Quart",),
        note="plain functions share asyncio's default executor (cores + 4 threads); 5 s at SIGTERM",
        app="bench.rivals.apps.quart_app:application",
    ),
    Way(
        "falcon",
        "Falcon resp.schedule",
        ("Falcon",),
        note="plain functions share asyncio's default executor (cores + 4 threads)",
        app="bench.rivals.apps.falcon_app:application",
    ),
    Way(
        "django-tasks-db",
        "queue: django-tasks-db on SQLite",
        ("django-tasks-db", "Django"),
        kinds=("sync",),
        workers="db_worker",
        note=f"{DB_WORKERS} workers; SQLite with a write-ahead log, as Django advises",
    ),
    Way(
        "celery",
        "queue: Celery with Redis",
        ("celery", "redis", "Django"),
        kinds=("sync",),
        workers="celery",
        note=f"one worker, prefork, concurrency {CELERY_CONCURRENCY}; redis is the client",
    ),
    Way("async_after", "async_after, the wrapper", ("async-after", "Django")),
    Way("async_after-middleware", "async_after, the middleware alone", ("async-after", "Django")),
)


def redis() -> str | None:
    """The path of a Redis server, or of one that speaks its protocol."""
    return next((found for name in REDIS if (found := shutil.which(name))), None)


def named(name: str) -> Way:
    for way in WAYS:
        if way.name == name:
            return way
    sys.exit(f"no way is called {name!r}; there are {', '.join(way.name for way in WAYS)}")
