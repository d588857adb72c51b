"""The plots of a report, as PNG and SVG. Each title says what is good."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from . import plots_interference, plots_latency, plots_rivals
from .runs import Results

mpl.use("Agg")

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": 130,
    "savefig.facecolor": "white",
    "svg.hashsalt": "async_after",
}
"""With a salt of its own an SVG is the same for the same figures."""

Plot = Callable[[Results], Iterator[tuple[str, str, Canvas]]]
"""File name without ending, what it shows, and the picture; nothing without figures for it."""
PLOTS: tuple[Plot, ...] = (
    plots_latency.added,
    plots_latency.distributions,
    plots_rivals.losses,
    plots_interference.p99,
)


def write(results: Results, directory: Path) -> Mapping[str, str]:
    """What each picture shows, by the name of its PNG."""
    written: dict[str, str] = {}
    with mpl.rc_context(STYLE):
        for plot in PLOTS:
            for name, what, canvas in plot(results):
                canvas.savefig(directory / f"{name}.png")
                canvas.set_layout_engine("none")  # it is laid out, and that takes long
                canvas.savefig(directory / f"{name}.svg", metadata={"Date": None})
                written[f"{name}.png"] = what
    return written
