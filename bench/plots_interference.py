"""The p99 of plain requests against their rate, while callbacks run."""

import re
from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from .runs import Results
from .stats import Estimate

WIDTH = 10.0
OURS, NOTHING = "async_after", "nothing"
OUR_COLOUR = "#0072b2"
COLOURS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Of Okabe and Ito: they differ for the colour-blind too."""
MARKERS = "osD^vPX"
"""Another one each time that the colours begin again."""
_NAME = re.compile(r"interference/(?P<way>[^/]+)/(?P<kind>.+), (?P<rate>[\d.]+) per second/p99")

Line = Mapping[float, Estimate]
"""By rate."""


def p99(results: Results) -> Iterator[tuple[str, str, Canvas]]:
    """A panel for each kind of callback, a line for each way; no callbacks in all of them."""
    panels: dict[str, dict[str, dict[float, Estimate]]] = {}
    for figure in results.figures():
        if found := _NAME.fullmatch(figure.name):
            lines = panels.setdefault(found["kind"], {})
            lines.setdefault(found["way"], {})[float(found["rate"])] = figure.estimate
    nothing = next((lines[NOTHING] for lines in panels.values() if NOTHING in lines), {})
    kinds = [kind for kind, lines in panels.items() if set(lines) != {NOTHING}]
    if not kinds:
        return
    ways = sorted(
        {way for kind in kinds for way in panels[kind]} - {NOTHING},
        key=lambda way: (not way.startswith(OURS), way),
    )
    canvas = Canvas(figsize=(WIDTH, 4.4), layout="constrained")
    for kind, panel in zip(
        kinds, canvas.subplots(1, len(kinds), sharey=True, squeeze=False)[0], strict=True
    ):
        _draw(panel, panels[kind], nothing, ways)
        panel.set_title(kind)
        panel.set_xlabel("plain requests per second")
    canvas.axes[0].set_ylabel("p99 of plain requests, ms")
    canvas.suptitle(
        "Plain requests while callbacks run. Good: low, and near the grey line", fontweight="bold"
    )
    canvas.legend(handles=list(_handles(ways)), loc="outside lower center", ncols=4)
    yield "interference", "The p99 of plain requests against their rate, by way", canvas


def _look(ways: Sequence[str], way: str) -> tuple[str, str]:
    ours = [name for name in ways if name.startswith(OURS)]
    if way in ours:
        return OUR_COLOUR, MARKERS[ours.index(way)]
    index = ways.index(way) - len(ours)  # ours come first
    return COLOURS[index % len(COLOURS)], MARKERS[index // len(COLOURS) % len(MARKERS)]


def _draw(panel: Axes, lines: Mapping[str, Line], nothing: Line, ways: Sequence[str]) -> None:
    rates = sorted({rate for line in lines.values() for rate in line} | set(nothing))
    if nothing:
        values = [nothing[rate].value * 1e3 for rate in sorted(nothing)]
        panel.plot(sorted(nothing), values, color="#c4c4c4", linewidth=5, marker="o")
    for way in reversed(ways):  # ours on top
        line = sorted(lines.get(way, {}).items())
        if not line:
            continue
        colour, marker = _look(ways, way)
        values = [it.value * 1e3 for _, it in line]
        panel.errorbar(
            [rate for rate, _ in line],
            values,
            yerr=[
                [max(0.0, it.value - it.low) * 1e3 for _, it in line],
                [max(0.0, it.high - it.value) * 1e3 for _, it in line],
            ],
            color=colour,
            marker=marker,
            linewidth=2.4 if way.startswith(OURS) else 1.2,
            capsize=3,
        )
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(FuncFormatter(_minor))
    panel.set_xticks(rates, [f"{rate:g}" for rate in rates])


def _minor(value: float, _: float | None) -> str:
    """Those in between that have room."""
    digit = f"{value:e}"[0]
    return f"{value:g}" if digit in "25" else ""


def _handles(ways: Sequence[str]) -> Iterator[Line2D]:
    yield Line2D([], [], color="#c4c4c4", linewidth=5, marker="o", label="no callbacks")
    for way in ways:
        colour, marker = _look(ways, way)
        yield Line2D([], [], color=colour, marker=marker, label=way)
