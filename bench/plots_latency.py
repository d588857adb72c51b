"""What callbacks add for the client, by server; and the distributions behind it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from .results import SHARES, Curve, Figure
from .runs import Results
from .summary import NOISY, judged

WIDTH = 10.0
"""Inches; with letters of 10 points it can be read at a README's width."""
COLOURS = {"async sleep 1 s": "#0072b2", "sync sleep 1 s": "#d55e00", "control: none": "#8a8a8a"}
"""Of Okabe and Ito: they differ for the colour-blind too."""
CONTROL = "control: none"
LIMIT = "#b30000"
TAIL = 0.99
"""The curves are cut there: of what is beyond there is too little to be drawn."""


@dataclass(frozen=True, slots=True)
class Path:
    """A figure's name, in parts."""

    server: str
    row: str
    figure: str

    @classmethod
    def of(cls, name: str) -> "Path | None":
        """``None`` for what is not one of the main servers' (``latency/uvicorn, 1 MB/...``)."""
        command, *rest = name.split("/")
        if command != "latency" or len(rest) < 3 or rest[1] not in COLOURS:
            return None
        is_main = "," not in rest[0] and " lane " not in rest[0]
        return cls(*rest[:3]) if is_main else None


def _unique(words: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(words))


def added(results: Results) -> Iterator[tuple[str, str, Canvas]]:
    """The added latency with its interval, and the aim's line."""
    found = {path: f for f in results.figures() if (path := Path.of(f.name))}
    # What the aim is about; HTTP/2 has figures of its own.
    figures = [f for f in _unique(p.figure for p in found) if f != "next stream"]
    servers = _unique(p.server for p in found if p.figure == "next request")
    if not servers:
        return
    canvas = Canvas(figsize=(WIDTH, 1.5 + 0.62 * len(servers)), layout="constrained")
    panels = canvas.subplots(1, len(figures), sharey=True, squeeze=False)[0]
    for panel, figure in zip(panels, figures, strict=True):
        shown = {p: f for p, f in found.items() if p.figure == figure and p.server in servers}
        _added_panel(panel, figure, shown, servers)
    panels[0].set_yticks(range(len(servers)), servers)
    panels[0].invert_yaxis()
    canvas.suptitle(
        "Added by a callback of 1 s, in µs. Good: the whole interval lies left of the red line",
        fontweight="bold",
    )
    handles = [
        *(_interval_handle(name, colour) for name, colour in COLOURS.items()),
        Line2D([], [], color="#444444", marker="o", mfc="white", lw=2, label="noisy"),
        Line2D([], [], color=LIMIT, linewidth=2, label="aim: 50 µs, or 2 % of the median"),
    ]
    canvas.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    yield "latency-added", "Added latency with 95 % intervals, by server", canvas


def _interval_handle(name: str, colour: str) -> Line2D:
    return Line2D([], [], color=colour, marker="o", markersize=5, linewidth=2, label=name)


def _added_panel(
    panel: Axes, title: str, shown: dict[Path, Figure], servers: Sequence[str]
) -> None:
    edges = [0.0]
    for path, figure in shown.items():
        height = servers.index(path.server) + 0.25 * (list(COLOURS).index(path.row) - 1)
        it, colour = figure.estimate.over(1e-6), COLOURS[path.row]
        panel.plot([it.low, it.high], [height, height], color=colour, linewidth=2)
        is_clear = judged(figure) != NOISY
        panel.plot(it.value, height, "o", color=colour, ms=5, mfc=colour if is_clear else "white")
        edges += [it.low, it.high]
        if figure.aim is not None:
            limit = figure.aim * 1e6
            panel.plot([limit, limit], [height - 0.11, height + 0.11], color=LIMIT, linewidth=2)
            edges.append(limit)
    panel.axvline(0, color="#444444", linewidth=0.8)
    margin = 0.06 * (max(edges) - min(edges))
    panel.set_xlim(min(edges) - margin, max(edges) + margin)
    panel.set_title(title)
    panel.grid(axis="y", visible=False)


def distributions(results: Results) -> Iterator[tuple[str, str, Canvas]]:
    """Each server's latencies side by side: the first one's alone, for a README, and all."""
    found: dict[tuple[str, str], list[tuple[str, bool, Curve]]] = {}
    for curve in results.curves():
        if path := Path.of(curve.name):
            side = curve.name.endswith("/with")
            found.setdefault((path.server, path.figure), []).append((path.row, side, curve))
    servers = _unique(server for server, figure in found if figure == "next request")
    if not servers:
        return
    figures = _unique(figure for server, figure in found if server in servers)
    for name, chosen in {"latency-cdf": servers[:1], "latency-cdf-all": servers}.items():
        height = 1.3 + (2.6 if len(chosen) == 1 else 1.75 * len(chosen))
        canvas = Canvas(figsize=(WIDTH, height), layout="constrained")
        panels = canvas.subplots(len(chosen), len(figures), sharey=True, squeeze=False)
        for server, line in zip(chosen, panels, strict=True):
            line[0].set_ylabel(f"{server}\n% of requests")
            for figure, panel in zip(figures, line, strict=True):
                _cumulative(panel, found.get((server, figure), []))
                if server == chosen[0]:
                    panel.set_title(figure)
        for panel in panels[-1]:
            panel.set_xlabel("ms")
        canvas.suptitle(
            "Latency with and without a callback of 1 s. Good: all curves lie on one another",
            fontweight="bold",
        )
        canvas.legend(handles=_cumulative_handles(), loc="outside lower center", ncols=4)
        yield name, f"Distributions of the latency: {', '.join(chosen)}", canvas


_WITH = {"async sleep 1 s": (0, (4, 3)), "sync sleep 1 s": (0, (1, 1.5))}


def _cumulative_handles() -> list[Line2D]:
    control = Line2D([], [], color="#c4c4c4", linewidth=5, label="control: the same again")
    without = Line2D([], [], color="#000000", linewidth=1.2, label="without a callback")
    return [
        control,
        without,
        *(
            Line2D([], [], color=COLOURS[row], linewidth=2, linestyle=dashes, label=f"with: {row}")
            for row, dashes in _WITH.items()
        ),
    ]


def _cumulative(panel: Axes, curves: Sequence[tuple[str, bool, Curve]]) -> None:
    size = sum(share <= TAIL for share in SHARES)
    heights = [100 * share for share in SHARES[:size]]
    for row, is_with, curve in curves:
        values = [value * 1e3 for value in curve.values[:size]]
        if row == CONTROL and is_with:
            panel.plot(values, heights, color="#c4c4c4", linewidth=5, zorder=1)
        elif row == CONTROL:
            panel.plot(values, heights, color="#000000", linewidth=1.2, zorder=2)
        elif is_with:
            panel.plot(
                values, heights, color=COLOURS[row], linewidth=2, linestyle=_WITH[row], zorder=3
            )
    panel.set_ylim(0, 100)
