"""``report.md``: on what, what was aimed at, the plots, and every table."""

from collections.abc import Iterator, Mapping, Sequence

from .report import Table
from .runs import Results, Run


def render(results: Results, tables: Sequence[Table], pictures: Mapping[str, str]) -> str:
    """``tables``: those over all runs. ``pictures``: what they show, by file name."""
    return "\n".join(_lines(results, tables, pictures)).rstrip() + "\n"


def _lines(results: Results, tables: Sequence[Table], pictures: Mapping[str, str]) -> Iterator[str]:
    yield from ("# What callbacks cost", "")
    yield "Written by `python -m bench report`. The method: [bench/README.md](../README.md)."
    yield ""
    machine = results.machine
    yield f"- {machine['processor']}, {machine['cores']} cores, {machine['platform']}"
    yield f"- {machine['python']}"
    yield "- " + ", ".join(f"{name} {found}" for name, found in machine["versions"].items())
    yield ""
    yield from _runs(results.runs)
    for table in tables:
        yield from _table(table, "##")
    for name, what in pictures.items():
        yield from (f"![{what}]({name})", "")
    for run in results.runs:
        yield from (f"## {run.name}", "")
        if run.state != "complete":
            yield from (f"**{run.state.upper()}**{': ' if run.message else ''}{run.message}", "")
        for table in run.tables:
            yield from _table(table, "###")


def _runs(runs: Sequence[Run]) -> Iterator[str]:
    rows = [
        [
            run.name,
            run.state,
            run.commit,
            run.began,
            f"{run.seconds:.0f}",
            f"{run.load:.2f}",
            " ".join(_options(run)),
        ]
        for run in runs
    ]
    columns = ("", "state", "commit", "began", "seconds", "load before", "options")
    yield from _markdown(columns, rows)


def _options(run: Run) -> Iterator[str]:
    for name, value in run.arguments.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            yield option
        elif value not in (None, False):
            yield f"{option} {' '.join(value) if isinstance(value, list) else value}"


def _table(table: Table, heading: str) -> Iterator[str]:
    yield from (f"{heading} {table.title}", "")
    if table.rows:
        yield from _markdown(table.columns, table.rows)
    yield from table.notes
    yield ""


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(map(_escaped, columns)) + " |"
    yield "|" + " --- |" + " ---: |" * (len(columns) - 1)
    for row in rows:
        yield "| " + " | ".join(map(_escaped, row)) + " |"
    yield ""


def _escaped(cell: str) -> str:
    for character in "\\|*_`<":
        cell = cell.replace(character, f"\\{character}")
    return cell
