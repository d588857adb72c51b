"""Do a million callbacks cost a million times as much as one?

CPU time and bytes per callback, for 1, 10, 100 ... callbacks: all of one exchange,
each of an exchange of its own, and each waiting for the runner's only slot. In
process, without sockets; each large measurement in a process of its own.
"""

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from .progress import Advance, tracking
from .report import Table, interval, verdict
from .results import Figure, count
from .scale_worker import SHAPES, WEIGHED, Found
from .stats import RESAMPLES, Estimate
from .workers import started

KINDS = ("async", "sync")
SIZES = tuple(10**power for power in range(7))
QUICK_SIZES = (100, 1_000, 10_000)
SECONDS = 600.0
STEADY = 1_000
"""Callbacks from which on ten times as many must cost the same each: below, what is
the same for all of them is shared by more and more."""
AIM = 2.0
"""What grows with the logarithm is far below, and what is quadratic is 10."""

Cell = tuple[str, str, int]
"""Shape, kind, size."""


@dataclass(slots=True)
class Result:
    found: dict[Cell, Found] = field(default_factory=dict)
    left_out: dict[Cell, str] = field(default_factory=dict)
    """And why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to",
        type=int,
        choices=SIZES,
        metavar="N",
        help=f"callbacks, at most: a power of ten ({SIZES[-1]}; --quick {QUICK_SIZES[-1]})",
    )
    parser.add_argument("--shape", action="append", choices=SHAPES, help="only this one")
    parser.add_argument(
        "--kind", action="append", choices=KINDS, help="only this one (--quick: async)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=SECONDS,
        help=f"leave out what would take longer than that in all ({SECONDS:g})",
    )


def run(args: argparse.Namespace) -> Iterator[Table]:
    sizes = QUICK_SIZES if args.quick and args.to is None else SIZES
    kinds = args.kind or (KINDS[:1] if args.quick else KINDS)
    sizes = tuple(size for size in sizes if args.to is None or size <= args.to)
    cells = [
        (shape, kind, size)
        for size in sizes  # the large ones last: they may be left out
        for kind in KINDS
        for shape in SHAPES
        if shape in (args.shape or SHAPES) and kind in kinds
    ]
    result = Result()
    try:
        with tracking("scale", len(cells)) as done:
            measure(cells, args.seconds, result, done)
    except (KeyboardInterrupt, SystemExit):
        yield from tables(result, args.seed, is_cut=True)
        raise
    yield from tables(result, args.seed)


def measure(cells: Sequence[Cell], seconds: float, result: Result, done: Advance) -> None:
    until = time.monotonic() + seconds
    small = [cell for cell in cells if cell[2] < WEIGHED]
    for shape, kind in dict.fromkeys(cell[:2] for cell in small):
        together = [cell for cell in small if cell[:2] == (shape, kind)]
        found = measured(shape, kind, [size for _, _, size in together])
        result.found.update(zip(together, found, strict=True))
        done(len(together))
    for cell in cells[len(small) :]:
        shape, kind, size = cell
        before = result.found.get((shape, kind, size // 10))
        why = why_not(size, before, until - time.monotonic(), free_memory())
        if why is None:
            [result.found[cell]] = measured(shape, kind, [size])
        else:
            result.left_out[cell] = why
        done(1)


def why_not(size: int, before: Found | None, seconds: float, memory: float) -> str | None:
    """Judged by a tenth as many; ``seconds`` and bytes are left."""
    if before is None:
        return "so was a tenth as many"
    takes = before.per_callback * size / 1e9
    if takes > seconds:
        return f"it would take {takes:.0f} s, and {max(0.0, seconds):.0f} s are left"
    weighs = (before.bytes or 0.0) * size
    if weighs > memory / 2:
        return f"it would take {weighs / 2**30:.1f} GiB, and {memory / 2**30:.1f} GiB are free"
    return None


def free_memory() -> float:
    """Bytes; without limit where that cannot be told."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # no Linux
        return float("inf")
    [available] = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(available) * 1024


def measured(shape: str, kind: str, sizes: Sequence[int]) -> list[Found]:
    """In a process of its own."""
    with started("bench.scale_worker", shape, kind, *map(str, sizes)) as worker:
        return [Found(**each) for each in worker.told()]


def mean(samples: Sequence[float], seed: int) -> Estimate:
    """Not the median: the garbage collector comes to few parts, and is to be paid all the same."""
    return _interval(fmean(samples), _resampled(samples, random.Random(seed)))


def growth(above: Sequence[float], below: Sequence[float], seed: int) -> Estimate:
    """The ratio of the means. They belong to different runs, and are resampled each by itself."""
    generator = random.Random(seed)
    pairs = zip(_resampled(above, generator), _resampled(below, generator), strict=True)
    return _interval(fmean(above) / fmean(below), [a / b for a, b in pairs])


def _resampled(samples: Sequence[float], generator: random.Random) -> list[float]:
    return [fmean(generator.choices(samples, k=len(samples))) for _ in range(RESAMPLES)]


def _interval(value: float, resampled: Sequence[float]) -> Estimate:
    ordered, margin = sorted(resampled), round(RESAMPLES * 0.025)
    return Estimate(value, ordered[margin], ordered[-1 - margin])


def tables(result: Result, seed: int, *, is_cut: bool = False) -> Iterator[Table]:
    cut = ["INTERRUPTED: what had been measured by then."] if is_cut else []
    for shape in SHAPES:
        left = [
            f"{kind}, {size:,}: left out, {why}."
            for (of, kind, size), why in result.left_out.items()
            if of == shape
        ]
        found = {cell: it for cell, it in sorted(result.found.items()) if cell[0] == shape}
        if found:
            yield _table(shape, found, [*_NOTES[shape], *_ALL, *left, *cut], seed)


def _table(shape: str, found: dict[Cell, Found], notes: Sequence[str], seed: int) -> Table:
    rows, figures = [], []
    for (_, kind, size), it in found.items():
        path = f"scale/{shape}/{kind}, {size}"
        before = found.get((shape, kind, size // 10))
        shown = {}
        for phase in ("register", "run"):
            samples = getattr(it, phase)
            if not samples:
                shown[phase] = ["-", "-"]
                continue
            figures.append(Figure(f"{path}/{phase}", "ns", mean(samples, seed)))
            shown[phase] = [f"{fmean(samples) / 1e3:.2f}", "-"]
            if before is None:
                continue
            ratio = growth(samples, getattr(before, phase), seed)
            aim = AIM if size > STEADY else None
            figures.append(Figure(f"{path}/{phase}, x a tenth as many", "x", ratio, aim=aim))
            judged = "" if aim is None else f": {verdict(ratio.high <= aim)}"
            shown[phase][1] = interval(ratio) + judged
        figures.append(Figure(f"{path}/garbage collector", "ns", count(it.collecting)))
        if it.bytes is not None:
            figures.append(Figure(f"{path}/bytes", "bytes", count(it.bytes)))
        weight = "-" if it.bytes is None else f"{it.bytes:.0f}"
        collecting = f"{it.collecting / 1e3:.2f}"
        rows.append([f"{kind}, {size:,}", *shown["register"], *shown["run"], collecting, weight])
    phases = [title for phase in ("register µs", "run µs") for title in (phase, "x a tenth")]
    columns = ["callbacks", *phases, "GC of it µs", "bytes"]
    return Table(f"Scale: {_TITLES[shape]}", columns, rows, notes, figures)


_TITLES = {
    "one exchange": "all callbacks of one exchange",
    "exchanges": "an exchange for each callback, 100 under way",
    "waiting": "an exchange for each callback, all waiting for one slot",
}
_NOTES = {
    "one exchange": ("Run: from the end of the exchange to the last callback.",),
    "exchanges": (
        "Register: making the exchange, its end and the run of the callback too. Bytes: what is",
        "left of each when all are done.",
    ),
    "waiting": (
        "Register: making the exchange and its end too, until it waits. Run: from the moment",
        "at which the slot is free.",
    ),
}
_ALL = (
    "CPU time of all threads, per callback. x a tenth: against a tenth as many; [...]: the 95 %",
    "interval of the ratio of means. Bytes: what the process has grown by (RSS) when all are",
    f"registered, or done, from {WEIGHED:,} on. GC of it: Python's garbage collector, in both; it",
    "looks at all that waits, now and then.",
    f"Aim, from {STEADY * 10:,} on: at most {AIM:g}. What is quadratic would be 10.",
)
