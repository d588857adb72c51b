"""Gates of the served apps. A gate is open as soon as its file is there.

So a test opens it whatever the server does meanwhile: it may have several
processes, or have closed its port. One thread looks for the files, so that
neither the loop nor a worker thread of the app wakes up before.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .events import VARIABLE

GATE_TIMEOUT = 20.0


def path_of(events: str, ident: str) -> Path:
    """The file of a gate, next to the file of the events."""
    return Path(f"{events}.{ident}.open")


class Gate:
    """For the event loop and for threads."""

    def __init__(self, ident: str) -> None:
        self._path = path_of(os.environ[VARIABLE], ident)

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        opened = asyncio.Event()

        def open_in_loop() -> None:
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(opened.set)

        _watch(self._path, open_in_loop)
        async with asyncio.timeout(GATE_TIMEOUT):
            await opened.wait()

    def wait_in_thread(self) -> None:
        opened = threading.Event()
        _watch(self._path, opened.set)
        if not opened.wait(GATE_TIMEOUT):
            raise TimeoutError("nobody has opened the gate")


_lock = threading.Lock()
_watched: list[tuple[Path, float, Callable[[], None]]] = []
_is_watching = False


def _watch(path: Path, function: Callable[[], None]) -> None:
    global _is_watching
    with _lock:
        _watched.append((path, time.monotonic() + GATE_TIMEOUT, function))
        if not _is_watching:
            _is_watching = True
            threading.Thread(target=_look, name="gates", daemon=True).start()


def _look() -> None:
    global _is_watching
    while True:
        now = time.monotonic()
        with _lock:
            found = [entry for entry in _watched if entry[0].exists()]
            _watched[:] = [e for e in _watched if e not in found and e[1] > now]
            if not _watched:
                _is_watching = False
        for _, _, function in found:
            function()
        if not _is_watching:
            return
        time.sleep(0.005)
