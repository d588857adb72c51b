"""What the first hour runs, and the tables of the server matrices at the end of a run."""

import signal
from pathlib import Path

import pytest

from . import selection
from .servers.report import ASGI, Table, results_of
from .wsgi.matrix import WSGI


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # By a shell that runs this in the background: what tests start would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "matrix(column): a column of a server matrix (matrix.py)")
    selection.register(config)


@pytest.fixture(scope="session")
def server_processes() -> None:
    """Who starts a server process asks for this (``processes.py``)."""


def pytest_addoption(parser: pytest.Parser) -> None:
    selection.add_option(parser)
    parser.addoption(
        "--matrix-markdown",
        metavar="PATH",
        help="write the tables of the server matrices to this file, in Markdown",
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """What holds on which server. The first hour asks too few of them too little."""
    if selection.is_first_hour(config):
        return
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
