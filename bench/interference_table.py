"""What ``interference`` has found, in tables and figures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median

from .interference_plan import FEWEST, KINDS, OURS, QUEUE, TITLES, Cell, Measured
from .report import Table, interval
from .results import Figure, count, curve
from .stats import Estimate, estimate, quantile, ratios

BETTER, NO_DIFFERENCE, MISSED = "better", "met (no difference shown)", "missed"
_NOTES = (
    "Latency from when a request was due (open loop). p50, p99: the medians of the slices' own,",
    "[...]: the 95 % interval; p99.9: of all slices together. Ratios: medians round by round.",
    "x without: against no callbacks; the control is one slice of those against the other.",
    "x best rival: async_after against the other way in the process of the server whose p99 is",
    "the lowest. The queue is none of them: its callbacks run in another process. The lowest of",
    "several noisy medians owes something to luck: that is left to count against async_after.",
    f"Aim, with CPU: no worse. {BETTER}: the whole interval is at most 1; {MISSED}: all of it is",
    f"above; {NO_DIFFERENCE}: neither. Its upper end is what the run could not exclude.",
)


def no_worse(ratio: Estimate) -> str:
    """In a word, of ours over theirs."""
    if ratio.high <= 1.0:
        return BETTER
    return MISSED if ratio.low > 1.0 else NO_DIFFERENCE


class Slices:
    """The latencies of one way, by round."""

    def __init__(self, latencies: Sequence[Sequence[float]]) -> None:
        self.samples = [sample for one in latencies for sample in one]
        self.p50s = [median(one) for one in latencies]
        self.p99s = [quantile(one, 0.99) for one in latencies]

    @property
    def p50(self) -> float:
        return median(self.p50s)

    @property
    def p99(self) -> float:
        return median(self.p99s)

    @property
    def highest(self) -> float:
        return quantile(self.samples, 0.999)


class AtRate:
    """All that was measured at one rate of plain requests."""

    def __init__(self, rate: float, measured: Measured, seed: int) -> None:
        slices = {
            cell: Slices(latencies[: measured.rounds])
            for cell, latencies in measured.slices.items()
            if cell.rate == rate
        }
        self._seed = seed
        self.measured = measured
        controls = [found for cell, found in slices.items() if cell.is_control]
        self.rate = rate
        self.nothing = _of_each_round(controls)
        self.control = self.ratio(*controls)
        self.ways = {cell: found for cell, found in slices.items() if not cell.is_control}

    def ratio(self, above: Slices, below: Slices) -> Estimate:
        return ratios(above.p99s, below.p99s, self._seed)

    def p99(self, slices: Slices) -> Estimate:
        return estimate(slices.p99s, self._seed)

    def over_best(self, cell: Cell) -> Estimate | None:
        """Ours over the best of the others in the same process, if there are any."""
        if cell.way != OURS:
            return None
        rivals = [
            found
            for other, found in self.ways.items()
            if other.kind == cell.kind and other.way not in (OURS, QUEUE)
        ]
        best = min(rivals, key=lambda slices: slices.p99, default=None)
        return None if best is None else self.ratio(self.ways[cell], best)

    def path(self, cell: Cell) -> str:
        return f"interference/{TITLES[cell.way]}/{KINDS[cell.kind]}, {self.rate:g} per second"

    @property
    def path_without(self) -> str:
        return f"interference/nothing/none, {self.rate:g} per second"

    def figures(self) -> Iterator[Figure]:
        yield from self._quantiles(self.path_without, self.nothing)
        yield Figure(f"{self.path_without}/x p99 without", "x", self.control)
        for cell, slices in self.ways.items():
            path = self.path(cell)
            yield from self._quantiles(path, slices)
            yield Figure(f"{path}/x p99 without", "x", self.ratio(slices, self.nothing))
            best = self.over_best(cell)
            if best is None:
                continue
            yield Figure(f"{path}/x p99 of the best rival", "x", best)
            if self.measured.is_judged(cell):
                # It keeps the limit unless ``no_worse`` says missed.
                name = f"{path}/x p99 of the best rival, lower end of the interval"
                yield Figure(name, "x", count(best.low), aim=1.0)

    def _quantiles(self, path: str, slices: Slices) -> Iterator[Figure]:
        p50 = estimate(slices.p50s, self._seed)
        yield Figure(f"{path}/p50", "s", p50, self.nothing.p50)
        yield Figure(f"{path}/p99", "s", self.p99(slices), self.nothing.p99)
        yield Figure(f"{path}/p99.9", "s", count(slices.highest), self.nothing.highest)


def _of_each_round(several: Sequence[Slices]) -> Slices:
    """One that stands for several of the same rounds."""
    found = Slices([])
    found.samples = [sample for one in several for sample in one.samples]
    found.p50s = [median(each) for each in zip(*(one.p50s for one in several), strict=True)]
    found.p99s = [median(each) for each in zip(*(one.p99s for one in several), strict=True)]
    return found


def tables(
    name: str, measured: Measured, left: Mapping[str, str], seed: int, *, is_cut: bool = False
) -> Iterator[Table]:
    rates = dict.fromkeys(cell.rate for cell in measured.slices)
    main, *others = (AtRate(rate, measured, seed) for rate in rates)
    notes = [
        f"Rounds: {measured.rounds}. Each way has a slice in each, in another order every time.",
        f"{measured.callbacks} callbacks were registered with the warm-up, and as many ran.",
        *(f"{TITLES[way]}: left out, {why}." for way, why in left.items()),
        *([f"Fewer than {FEWEST} rounds judge nothing."] if measured.rounds < FEWEST else []),
        *(["INTERRUPTED: so many rounds had been measured by then."] if is_cut else []),
    ]
    yield _all_kinds(name, main, notes)
    if others:
        yield _by_rate(name, main, others, notes)


def _all_kinds(name: str, at: AtRate, notes: Sequence[str]) -> Table:
    rows = [["none", "-", *_shown(at, at.nothing), f"control {interval(at.control)}", "-"]]
    curves = [curve(at.path_without, "s", at.nothing.samples)]
    for cell, slices in at.ways.items():
        best = at.over_best(cell)
        shown = "-" if best is None else interval(best)
        if best is not None and at.measured.is_judged(cell):
            shown += f": {no_worse(best)}"
        ratio = interval(at.ratio(slices, at.nothing))
        rows.append([KINDS[cell.kind], TITLES[cell.way], *_shown(at, slices), ratio, shown])
        curves.append(curve(at.path(cell), "s", slices.samples))
    columns = ["callbacks", "way", "p50 ms", "p99 ms", "p99.9 ms", "p99 x without"]
    title = f"{name}: {at.rate:g} plain requests/s meanwhile"
    return Table(
        title, [*columns, "p99 x best rival"], rows, [*_NOTES, *notes], [*at.figures()], curves
    )


def _shown(at: AtRate, slices: Slices) -> list[str]:
    p99 = interval(at.p99(slices).over(1e-3))
    return [f"{slices.p50 * 1e3:.2f}", p99, f"{slices.highest * 1e3:.1f}"]


def _by_rate(name: str, main: AtRate, others: Sequence[AtRate], notes: Sequence[str]) -> Table:
    """The figures of the main rate are those of the other table."""
    found = sorted([main, *others], key=lambda at: at.rate)
    rows = [["none", *(interval(at.p99(at.nothing).over(1e-3)) for at in found)]]
    for cell in others[0].ways:
        cells = [(at, replace(cell, rate=at.rate)) for at in found]
        p99s = [at.p99(at.ways[each]).over(1e-3) for at, each in cells]
        rows.append([TITLES[cell.way], *map(interval, p99s)])
        if cell.way == OURS:
            best = [at.over_best(each) for at, each in cells]
            rows.append(["  x best rival", *("-" if it is None else interval(it) for it in best)])
    columns = ["p99 ms", *(f"{at.rate:g}/s" for at in found)]
    title = f"{name}: {KINDS['cpu']}, by the rate of plain requests"
    figures = [figure for at in others for figure in at.figures()]
    return Table(title, columns, rows, notes, figures)
