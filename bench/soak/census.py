"""What the process keeps: threads, tasks, files, objects, and cycles of references."""

import asyncio
import gc
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import CoroutineType, FrameType, FunctionType, MethodType
from typing import Any

from async_after._core import conf

OURS = "async_after"
# What else is counted: what a request or a callback could leave behind.
_OTHERS = {
    "ASGIRequest",
    "HttpResponse",
    "StreamingHttpResponse",
    "DatabaseWrapper",
    "Connection",
    "Context",
    "ThreadSensitiveContext",
    "ThreadPoolExecutor",
    "Task",
    "Future",
    "coroutine",
    "async_generator",
    "traceback",
    "frame",
    "Note",
}


def take() -> dict[str, Any]:
    """Counts of everything, behind a full collection."""
    for _ in range(3):
        gc.collect()
    this = asyncio.current_task()
    return {
        "threads": Counter(_general(thread.name) for thread in threading.enumerate()),
        "tasks": Counter(_coroutine(task) for task in asyncio.all_tasks() if task is not this),
        "files": _files(),
        "objects": Counter(filter(None, map(_kind, gc.get_objects()))),
        "blocks": sys.getallocatedblocks(),
        "max_threads": conf.bounds().max_threads,
        "max_default_threads": min(32, (os.cpu_count() or 1) + 4),
    }


def _coroutine(task: "asyncio.Task[Any]") -> str:
    return getattr(task.get_coro(), "__qualname__", task.get_name())


def _general(name: str) -> str:
    """A thread's name without its numbers."""
    return re.sub(r"[-_ ]?\d+", "", name)


def _files() -> Counter[str]:
    found: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # the one of the listing itself
            continue
        if target.startswith("/"):
            found["database" if "soak.sqlite3" in target else Path(target).name] += 1
        else:
            found[target.partition(":")[0]] += 1
    return found


def _kind(thing: object) -> str | None:
    """What it is counted as, if it is."""
    kind = type(thing)
    try:
        module, name = str(kind.__module__), kind.__qualname__
    except Exception:  # its metaclass refuses to tell
        return None
    if module.partition(".")[0] == OURS:
        return f"{module}.{name}"
    return name if name in _OTHERS else None


# Reference cycles.


def watch() -> dict[str, Any]:
    """From now on nothing is collected, and what would be is kept."""
    gc.collect()
    gc.disable()
    gc.garbage.clear()
    gc.set_debug(gc.DEBUG_SAVEALL)
    return {}


def garbage() -> dict[str, Any]:
    """What only the collector could free since then, and the cycles that have something of ours.

    What merely hangs on a cycle of others is theirs.
    """
    gc.collect()
    gc.set_debug(0)
    found = [*gc.garbage]
    gc.garbage.clear()
    gc.enable()
    cycles = [cycle for cycle in _cycles(found) if any(map(_is_ours, cycle))]
    told = {
        "objects": len(found),
        "ours": sum(map(_is_ours, found)),
        "cycles": len(cycles),
        "shapes": Counter(", ".join(sorted(map(_described, cycle))[:12]) for cycle in cycles),
    }
    return told


def _is_ours(thing: Any) -> bool:
    try:
        return _module(thing).partition(".")[0] == OURS
    except Exception:  # some refuse to tell
        return False


def _module(thing: Any) -> str:
    if type(thing) is MethodType:
        thing = thing.__func__
    if type(thing) is FunctionType:
        return thing.__module__ if type(thing.__module__) is str else ""
    # By its type: what is asked may refuse.
    frame = thing.cr_frame if type(thing) is CoroutineType else thing
    if type(frame) is FrameType:
        return str(frame.f_globals.get("__name__", ""))
    return str(type(thing).__module__)


def _described(thing: Any) -> str:
    if type(thing) is FrameType:
        return f"frame of {thing.f_code.co_qualname}"
    name = getattr(thing, "__qualname__", None) if type(thing) is FunctionType else None
    return f"function {name}" if name else type(thing).__qualname__


def _cycles(things: Iterable[Any]) -> list[list[Any]]:
    """The strongly connected parts (Tarjan, without recursion) that are no single point."""
    nodes = {id(thing): thing for thing in things}
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    on_path: set[int] = set()
    path: list[int] = []
    cycles: list[list[Any]] = []

    def edges(node: int) -> list[int]:
        return [id(other) for other in gc.get_referents(nodes[node]) if id(other) in nodes]

    for root in nodes:
        if root in index:
            continue
        work = [(root, iter(edges(root)))]
        index[root] = low[root] = len(index)
        path.append(root)
        on_path.add(root)
        while work:
            node, following = work[-1]
            for other in following:
                if other not in index:
                    index[other] = low[other] = len(index)
                    path.append(other)
                    on_path.add(other)
                    work.append((other, iter(edges(other))))
                    break
                if other in on_path:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[node])
                if low[node] == index[node]:
                    part = path[path.index(node) :]
                    del path[len(path) - len(part) :]
                    on_path.difference_update(part)
                    if len(part) > 1 or node in edges(node):
                        cycles.append([nodes[n] for n in part])
    return cycles
