"""The loss table as a heat map."""

from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas

from .runs import Results

WIDTH = 10.0
OURS = "async_after"
LOST, LOGGED = "lost: ", "failure logged"
COLOURS = LinearSegmentedColormap.from_list("lost", ["#fff2b3", "#f0a030", "#a02010"])
"""From the first callback lost to all; none has a colour of its own."""
NONE = "#d6ebf7"
DARK = 0.6
"""The share from which on colours want white letters."""

Cells = dict[tuple[str, str], dict[str, float]]
"""What is bad, from 0 to 1, by way and kind of work, and by column."""


def losses(results: Results) -> Iterator[tuple[str, str, Canvas]]:
    cells = _cells(results)
    if not cells:
        return
    rows = sorted(cells, key=lambda row: not row[0].startswith(OURS))
    columns = list(dict.fromkeys(column for row in rows for column in cells[row]))
    canvas = Canvas(figsize=(WIDTH, 1.6 + 0.27 * len(rows)), layout="constrained")
    panel = canvas.subplots()
    for y, row in enumerate(rows):
        for column, bad in cells[row].items():
            _cell(panel, columns.index(column), y, column, bad)
    panel.set_xlim(-0.5, len(columns) - 0.5)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_xticks(
        range(len(columns)),
        [column.removeprefix(LOST).replace(" ", "\n", 1) for column in columns],
    )
    panel.set_yticks(range(len(rows)), [f"{way} ({kind})" for way, kind in rows])
    for label, (way, _) in zip(panel.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if way.startswith(OURS) else "normal")
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.grid(visible=False)
    canvas.suptitle("Callbacks lost. Good: 0, the blue cells", fontweight="bold")
    yield "rivals-loss", "Share of callbacks lost, by way and event", canvas


def _cells(results: Results) -> Cells:
    """From ``rivals/<way>/<kind>/lost: <column>``, and whether a failure is logged."""
    cells: Cells = {}
    for figure in results.figures():
        command, *rest = figure.name.split("/", 3)
        if command == "rivals" and len(rest) == 3 and rest[2].startswith((LOST, LOGGED)):
            way, kind, column = rest
            share = float(figure.estimate.value)
            cells.setdefault((way, kind), {})[column] = 1 - share if column == LOGGED else share
    return cells


def _cell(panel: Axes, x: int, y: int, column: str, bad: float) -> None:
    colour = NONE if bad == 0 else COLOURS(bad)
    panel.fill_between([x - 0.5, x + 0.5], y - 0.5, y + 0.5, fc=colour, ec="white", lw=1)
    letters = "white" if bad > DARK else "black"
    panel.text(x, y, _text(column, bad), ha="center", va="center", color=letters, fontsize=9)


def _text(column: str, bad: float) -> str:
    if column == LOGGED:
        return "NO" if bad else "yes"
    if bad == 0:
        return "0"
    # Never rounded to none or to all.
    return f"{min(max(100 * bad, 1), 99 if bad < 1 else 100):.0f} %"
