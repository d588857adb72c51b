"""Figures in words: with their units, against their aims, and in one table."""

from collections.abc import Iterable

from .report import Table, verdict
from .results import Figure
from .stats import Estimate

_SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "ns": ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")),
    "share": ((0.01, "%"),),
    "bytes": ((2**20, "MiB"), (2**10, "KiB"), (1.0, "bytes")),
    "count": ((1.0, ""),),
    "x": ((1.0, "x"),),
}
MISSED, NOISY, MET = "missed", "too noisy to tell", "met"
ORDER = (MISSED, NOISY, MET)


def shown(estimate: Estimate, unit: str) -> str:
    """The value and its interval; a number that was counted has none."""
    factor, name = _scale(max(map(abs, (estimate.value, estimate.low, estimate.high))), unit)
    value, low, high = (_number(x / factor) for x in (estimate.value, estimate.low, estimate.high))
    text = value if estimate.low == estimate.high else f"{value} [{low}, {high}]"
    return f"{text} {name}".rstrip()


def limit(value: float, unit: str) -> str:
    factor, name = _scale(abs(value), unit)
    return f"{_number(value / factor)} {name}".rstrip()


def _scale(largest: float, unit: str) -> tuple[float, str]:
    scales = _SCALES.get(unit, ((1.0, unit),))
    return next((scale for scale in scales if largest >= scale[0]), scales[-1])


def _number(value: float) -> str:
    if value == round(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def judged(figure: Figure) -> str | None:
    """Against its aim."""
    if figure.is_met is None:
        return None
    return NOISY if figure.is_noisy else verdict(figure.is_met)


def aims(figures: Iterable[Figure]) -> Table:
    """Every figure that has an aim, those that miss it first."""
    found = [(judged(figure), figure) for figure in figures if figure.aim is not None]
    rows = [
        [
            figure.name,
            shown(figure.estimate, figure.unit),
            f"at {'most' if figure.better == 'lower' else 'least'}"
            f" {limit(figure.aim or 0.0, figure.unit)}",
            word,
        ]
        for wanted in ORDER
        for word, figure in found
        if word == wanted
    ]
    counts = ", ".join(f"{sum(word == wanted for word, _ in found)} {wanted}" for wanted in ORDER)
    notes = [
        f"Of {len(found)} aims: {counts}.",
        "Met: the whole interval keeps the limit. Too noisy to tell: the control beside it, nothing"
        " against nothing, does not, and the interval does not lie beyond both.",
    ]
    return Table("What was aimed at", ("figure", "found", "aim", ""), rows, notes)
