"""The first hour's run: what ``python -m pytest`` runs, and what it leaves to ``--all``.

The rule: all tests that start no server process, but for those marked ``exhaustive``; and what
is marked ``first_hour``, of all parametrisations those that ``first_hour(name=value)`` names.
Whoever selects for himself, by paths, ``-k`` or ``-m``, gets all that he selects.

The list of what it shows, each promise through each way in, each server, and each kind of
callable in each lane, is below; ``test_first_hour.py`` compares it with what is collected.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

import async_after

from .processes import IN_PROCESS, starts_servers
from .servers.launch import MIDDLEWARE, SERVERS

# The list.

EXEMPT: Mapping[tuple[str, str], str] = {
    ("pure_core", MIDDLEWARE): "the Django middleware is Django",
}
"""The promises that cannot be shown through a way in, and why."""

FROM_ELSEWHERE = ("uwsgi", "mod_wsgi")
"""How the names of servers begin that Python alone cannot install."""

KINDS = (
    *("function", "lambda", "partial", "method", "callable object", "class", "builtin"),
    *("wrapped", "returns a coroutine", "wrapped by a plain function", "async_to_sync"),
    *("coroutine function", "partial of a coroutine function", "async method"),
    *("async callable object", "partial of an async callable object"),
    *("wrapped coroutine function", "sync_to_async"),
)
"""The kinds of callables."""
LANES = ("loop", "threads", "background", "scope", "async scope", "inline under WSGI")
"""Where they run; the last three are the inline lane."""

_PROMISE = re.compile(r"^Promise (\d+), (\w+)", flags=re.MULTILINE)


def promises() -> list[str]:
    """The names of all that a module of the package declares at its head."""
    modules = pkgutil.walk_packages(async_after.__path__, "async_after.")
    found: dict[int, str] = {}
    for name in ["async_after", *(module.name for module in modules)]:
        head = importlib.import_module(name).__doc__ or ""
        found |= {int(number): promise for number, promise in _PROMISE.findall(head)}
    return [found[number] for number in sorted(found)]


def servers() -> list[str]:
    """Those that Python alone installs."""
    return [name for name in SERVERS if not name.startswith(FROM_ELSEWHERE)]


# What a test shows.


def parameters(item: pytest.Item) -> Mapping[str, Any]:
    callspec = getattr(item, "callspec", None)  # only a parametrized test has one
    return {} if callspec is None else callspec.params


def _told(item: pytest.Item, name: str) -> Iterator[str]:
    """What its ``row``, ``site`` or ``config`` says of this. A row has a ``config`` that knows."""
    for value in parameters(item).values():
        told = getattr(getattr(value, "config", value), name, None)
        if isinstance(told, str):
            yield told


def server_of(item: pytest.Item) -> str | None:
    return next((name for name in _told(item, "server") if name in SERVERS), None)


def shown(items: Iterable[pytest.Item]) -> set[tuple[str, str]]:
    """The promises that these tests show, each with the way: what the mark says, or the server."""
    found = set()
    for item in items:
        for mark in item.iter_markers("promise"):
            way = mark.kwargs.get("way") or next(_told(item, "way"), None)
            found |= {(promise, way) for promise in mark.args if way}
    return found


# The rule.

LEFT_OUT = "exhaustive"
"""The marker of all that the first hour leaves out, in the end."""
NEVER = (LEFT_OUT, "postgresql", "uwsgi", "mod_wsgi", "soak")
"""Too slow, or in need of more than Python."""


def belongs(item: pytest.Item) -> bool:
    """Whether the first hour runs it."""
    if any(item.get_closest_marker(name) is not None for name in NEVER):
        return False
    wanted = [*item.iter_markers("first_hour")]
    if wanted:
        return any(_matches(item, mark) for mark in wanted)
    return not starts_servers(item)


def _matches(item: pytest.Item, mark: pytest.Mark) -> bool:
    """Whether it has these parameters: each a value, or a tuple or list of values."""
    found = parameters(item)
    unknown = {*mark.kwargs} - {*found}
    if unknown or mark.args:
        raise pytest.UsageError(f"{item.nodeid}: first_hour() names no parameter: {unknown}")
    return all(
        found[name] in wanted if isinstance(wanted, tuple | list) else found[name] == wanted
        for name, wanted in mark.kwargs.items()
    )


def mark_all(items: Iterable[pytest.Item]) -> None:
    """Each test gets ``in_process`` and ``exhaustive`` where they are true of it."""
    for item in items:
        if not starts_servers(item):
            item.add_marker(IN_PROCESS)
        if not belongs(item):
            item.add_marker(LEFT_OUT)
