"""The table of a server matrix, from the reports of its tests."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import pytest

from .launch import Config
from .matrix import COLUMNS, MODES, ROWS, Row, row_of


@dataclass(frozen=True, eq=False)
class Matrix:
    """What makes up one table."""

    title: str
    rows: Sequence[Row]
    columns: Mapping[str, str]
    modes: Mapping[str, str]


ASGI = Matrix("server matrix", ROWS, COLUMNS, MODES)

PROPERTY = "matrix"

YES, NO, NOT_RUN = "yes", "FAILS", "?"


def note(item: pytest.Item, matrix: Matrix) -> None:
    """Let the reports of this test say which cell of this table it fills.

    They take these properties with them from the processes of xdist.
    """
    mark = item.get_closest_marker(PROPERTY)
    row = _row_of(item)
    if mark is None or row is None:
        return
    (column,) = mark.args
    assert column in matrix.columns, f"{item.nodeid}: no column {column!r} in matrix.COLUMNS"
    item.user_properties.append((PROPERTY, [matrix.title, row.server, row.mode, column]))


def _row_of(item: pytest.Item) -> Row | None:
    """That of the test's ``row``, or of its ``config`` or whatever has one."""
    callspec = getattr(item, "callspec", None)  # only a parametrized test has one
    parameters = {} if callspec is None else callspec.params
    row = parameters.get("row")
    if isinstance(row, Row):
        return row
    for value in parameters.values():
        config = value if isinstance(value, Config) else getattr(value, "config", None)
        if isinstance(config, Config):
            return row_of(config)
    return None


Results = dict[tuple[str, str, str], set[str]]
"""The outcomes of the tests of each cell."""


def results_of(reports: Iterable[object], matrix: Matrix) -> Results:
    results: Results = {}
    for report in reports:
        if not isinstance(report, pytest.TestReport):
            continue
        for name, value in report.user_properties:
            if name == PROPERTY and (report.when == "call" or not report.passed):
                assert isinstance(value, list)
                title, server, mode, column = value
                if title == matrix.title:
                    results.setdefault((server, mode, column), set()).add(report.outcome)
    return results


class Table:
    """One line per server and mode, one column per scenario."""

    def __init__(self, results: Results, matrix: Matrix) -> None:
        self._results = results
        self._modes = matrix.modes
        self._meanings = matrix.columns
        self._numbers = count(1)
        self.notes: dict[str, int] = {}
        """Why something is impossible, and the number of the footnote."""
        asked = {column for _, _, column in results}
        self.columns = [column for column in matrix.columns if column in asked]
        self.lines = [
            (row, [self._mark(row, column) for column in self.columns])
            for row in matrix.rows
            if any((row.server, row.mode, column) in results for column in self.columns)
        ]

    def _mark(self, row: Row, column: str) -> str:
        outcomes = self._results.get((row.server, row.mode, column))
        if outcomes is None:
            return ""
        if "failed" in outcomes:
            return NO
        if "passed" not in outcomes:
            return NOT_RUN
        why = row.why_not(column)
        if why is None:
            return YES
        if why not in self.notes:
            self.notes[why] = next(self._numbers)
        return f"- {self.notes[why]}"

    def terminal(self) -> list[str]:
        cells = [["server", "", *self.columns]]
        cells += [[row.server, row.mode, *marks] for row, marks in self.lines]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [_join(line, widths) for line in cells]
        lines += ["", "yes: holds.  -: impossible, see the number.  empty: does not apply."]
        lines += [f"{number}: {why}" for why, number in self.notes.items()]
        return lines

    def markdown(self) -> str:
        lines = [
            _row(["server", "", *self.columns]),
            _row(["---"] * (len(self.columns) + 2)),
        ]
        for row, marks in self.lines:
            shown = [re.sub(r"- (\d+)", r"- <sup>\1</sup>", mark) for mark in marks]
            lines.append(_row([row.server, row.mode, *shown]))
        lines.append("")
        lines += [f"- **{mode}**: {meaning}." for mode, meaning in self._modes.items()]
        lines.append("")
        lines += [f"- **{column}**: {self._meanings[column]}." for column in self.columns]
        lines += ["", "*-*: impossible there, and a test asserts what happens instead:", ""]
        lines += [f"{number}. {why}." for why, number in self.notes.items()]
        return "\n".join(lines) + "\n"


def _join(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join(padded).rstrip()


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
