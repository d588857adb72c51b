"""What ``interference`` measures: callbacks of a kind, run in one way, at one rate of requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

NOTHING, OURS, QUEUE = "nothing", "async_after", "celery"
KINDS = {
    "async": "async sleep 100 ms",
    "sync": "sync sleep 100 ms",
    "cpu": "sync CPU 5 ms",
    "write": "database write",
}
_PLAIN = (OURS, "starlette", "run_in_executor", "thread", QUEUE)
WAYS: Mapping[str, Sequence[str]] = {
    "async": (OURS, "starlette", "create_task"),
    "sync": _PLAIN,
    "cpu": _PLAIN,
    "write": _PLAIN,
}
"""Those that can run this kind of callback."""
TITLES = {
    OURS: "async_after",
    "starlette": "Starlette BackgroundTask",
    "create_task": "create_task",
    "run_in_executor": "run_in_executor",
    "thread": "a thread per call",
    QUEUE: "queue: Celery with Redis",
}
"""As in the names of figures."""
RATES = (200.0, 100.0, 400.0)
"""Of plain requests. The aim is about the first one, where all kinds are measured;
at the others there is CPU alone, which is what disturbs."""
CALLBACKS = 40.0
"""A second, for the aim."""
FEWEST = 6
"""Rounds, for a verdict: of fewer, even from the lowest ratio to the highest is no 95 %."""
CONTROLS = 2
"""Slices without callbacks in a round; one against the other is the method's error."""


@dataclass(frozen=True, slots=True)
class Cell:
    way: str
    kind: str
    rate: float
    number: int = 0
    """Of those without callbacks."""

    @property
    def is_control(self) -> bool:
        return self.way == NOTHING


@dataclass(slots=True)
class Measured:
    slices: dict[Cell, list[list[float]]] = field(default_factory=dict)
    """Latencies of plain requests; those of equal index belong to the same round."""
    rounds: int = 0
    """That are complete."""
    callbacks: int = 0
    """That were registered by then, and ran."""
    per_second: float = CALLBACKS
    """How many were registered."""

    def is_judged(self, cell: Cell) -> bool:
        """Whether the aim is about this one; fewer rounds make no interval of 95 %."""
        asked = Cell(OURS, "cpu", RATES[0]), CALLBACKS
        return (cell, self.per_second) == asked and self.rounds >= FEWEST


def cells(kinds: Sequence[str], rates: Sequence[float], left: Mapping[str, str]) -> list[Cell]:
    """``left``: the ways that are left out, and why."""
    found: list[Cell] = []
    for rate in rates:
        at_rate = kinds if rate == rates[0] else [kind for kind in kinds if kind == "cpu"]
        if at_rate:
            found += [Cell(NOTHING, at_rate[0], rate, number) for number in range(CONTROLS)]
        found += [
            Cell(way, kind, rate) for kind in at_rate for way in WAYS[kind] if way not in left
        ]
    return found
