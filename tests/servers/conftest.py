from collections.abc import Iterator
from pathlib import Path

import pytest

from .endings import Endings, wanted
from .harness import Server, Servers
from .launch import Config
from .matrix import Row
from .report import Table, note, results_of


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("servers"))
    yield servers
    servers.stop()


@pytest.fixture
def config(row: Row) -> Config:
    """That of the row, where a test names none."""
    return row.config


@pytest.fixture
def server(servers: Servers, config: Config) -> Iterator[Server]:
    """The shared server of the test's ``config``; what holds for all requests
    is checked after each test."""
    server = servers.get(config)
    yield server
    server.check()


@pytest.fixture
def own_server(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the test may end."""
    server = Server(config, tmp_path_factory.mktemp("server"))
    try:
        yield server
        server.check()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def endings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endings]:
    """The scenarios of the module's selected tests, which all start here."""
    scenarios = wanted(request.session.items, request.module)
    with Endings(tmp_path_factory.mktemp("endings"), scenarios) as endings:
        yield endings


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "matrix(column): a column of the server matrix (matrix.py)")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--matrix-markdown",
        metavar="PATH",
        help="write the table of the server matrix to this file, in Markdown",
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    note(item)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The server matrix: what holds on which server."""
    reports = (report for found in terminalreporter.stats.values() for report in found)
    results = results_of(reports)
    if not results:
        return
    table = Table(results)
    terminalreporter.section("server matrix")
    for line in table.terminal():
        terminalreporter.line(line)
    # Not there where this file was loaded after the command line was read.
    path = config.getoption("matrix_markdown", default=None)
    if path is not None:
        Path(path).write_text(table.markdown())
