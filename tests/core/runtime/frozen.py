"""Freezes time as freezegun does: each module that has the real function gets another one."""

import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import ModuleType

import pytest

REAL: dict[int, Callable[[], float]] = {
    id(function): function
    for function in (
        *(time.time, time.monotonic, time.perf_counter),
        *(time.time_ns, time.monotonic_ns, time.perf_counter_ns),
    )
}
SPARED = ("threading", "multiprocessing", "queue", "_pytest", "pytest", "xdist", "execnet")
"""freezegun leaves the first three alone; the test runner measures what it likes."""

CLOCKS = {"ahead": datetime(2030, 1, 1).timestamp(), "behind": 1.0}
"""freezegun's monotonic clock shows the frozen date in seconds. Others begin anew."""


@functools.cache
def _places(loaded: int) -> list[tuple[ModuleType, str, int]]:
    found = []
    for name, module in [*sys.modules.items()]:
        if isinstance(module, ModuleType) and not name.startswith((*SPARED, __name__)):
            values = [*vars(module).items()]
            found += [(module, attribute, id(v)) for attribute, v in values if id(v) in REAL]
    return found


@contextmanager
def frozen(clock: str) -> Iterator[None]:
    seconds = CLOCKS[clock]
    with pytest.MonkeyPatch.context() as patch:
        for module, attribute, real in _places(len(sys.modules)):
            is_whole = REAL[real].__name__.endswith("_ns")
            stopped = int(seconds * 1e9) if is_whole else seconds
            patch.setattr(module, attribute, functools.partial(lambda value: value, stopped))
        # Others do nothing instead of waiting.
        patch.setattr(time, "sleep", lambda seconds: None)
        yield
