"""The samples of ``latency`` as a table, as figures and as curves."""

from dataclasses import replace
from statistics import median

from .latency_measure import Samples
from .report import Table, interval, verdict
from .results import Curve, Figure, curve, reach
from .stats import Estimate, differences

ROWS = {
    "none": "control: none",
    "async": "async sleep 1 s",
    "sync": "sync sleep 1 s",
    "cpu": "sync CPU 5 ms",
    "database": "database write",
}
CONTROL = "none"
JUDGED = ("async", "sync")
"""The rows that have an aim."""
AIM_SHARE, AIM_SECONDS = 0.02, 50e-6
COLUMNS = ("callback", "figure", "without µs", "with µs", "added µs", "of baseline", "aim")


def aim(baseline: float) -> float:
    """What may be added, in seconds."""
    return max(AIM_SHARE * baseline, AIM_SECONDS)


def table(title: str, server: str, samples: Samples, callbacks: int | None, seed: int) -> Table:
    """``callbacks``: how many ran, ``None`` where the end was not waited for."""
    rows: list[list[str]] = []
    figures: list[Figure] = []
    curves: list[Curve] = []
    controls: dict[str, Estimate] = {}
    size = 0
    for (row, name), pairs in samples.items():
        # Ctrl-C may have come between one side and the other.
        size = min(len(pairs.without), len(pairs.with_))
        without, with_ = pairs.without[:size], pairs.with_[:size]
        baseline = median(without)
        added = differences(with_, without, seed)
        path = f"latency/{server}/{ROWS[row]}/{name}"
        if row == CONTROL:
            controls[name] = added
        figure = Figure(path, "s", added, baseline=baseline)
        if row in JUDGED:
            figure = replace(figure, aim=aim(baseline), control=controls.get(name))
        figures.append(figure)
        curves += [
            curve(f"{path}/without", "s", without),
            curve(f"{path}/with", "s", with_),
        ]
        rows.append(
            [
                ROWS[row],
                name,
                f"{baseline * 1e6:.0f}",
                f"{median(with_) * 1e6:.0f}",
                interval(added.over(1e-6), "{:+.1f}"),
                interval(added.over(baseline / 100), "{:+.1f}", " %"),
                _verdict(row, figure),
            ]
        )
    notes = [f"{size} interleaved pairs per line; [...] is the 95 % interval of the median."]
    if callbacks is None:
        notes.append("INTERRUPTED: so many pairs had been measured by then.")
    else:
        notes.append(f"{callbacks} callbacks were registered, and as many ran.")
    if any(row in JUDGED for row, _ in samples):
        notes += [
            "Aim: the upper end of the interval is at most 2 % of the baseline or 50 µs, whichever",
            "is larger. The control shows the error of the method itself. Noisy: that reaches",
            "beyond the aim, and what is added does not lie beyond both.",
        ]
    return Table(title, COLUMNS, rows, notes, figures, curves)


def _verdict(row: str, figure: Figure) -> str:
    if row == CONTROL:
        return "noisy" if reach(figure.estimate) > aim(figure.baseline or 0.0) else "quiet"
    if figure.is_met is None:
        return "-"
    return "noisy" if figure.is_noisy else verdict(figure.is_met)
