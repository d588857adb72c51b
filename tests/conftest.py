"""The tables of the server matrices, at the end of the run that filled them."""

from pathlib import Path

import pytest

from .servers.report import ASGI, Table, results_of
from .wsgi.matrix import WSGI


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "matrix(column): a column of a server matrix (matrix.py)")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--matrix-markdown",
        metavar="PATH",
        help="write the tables of the server matrices to this file, in Markdown",
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """What holds on which server."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    written = []
    for matrix in (ASGI, WSGI):
        results = results_of(reports, matrix)
        if not results:
            continue
        table = Table(results, matrix)
        terminalreporter.section(matrix.title)
        for line in table.terminal():
            terminalreporter.line(line)
        written.append(table.markdown())
    path = config.getoption("matrix_markdown")
    if written and path is not None:
        Path(path).write_text("\n".join(written))
