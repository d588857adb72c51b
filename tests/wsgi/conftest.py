from collections.abc import Iterator

import pytest

from ..servers.endings import Endings, wanted
from ..servers.launch import Config
from ..servers.report import note
from .harness import Server, Servers
from .matrix import WSGI, Row


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, server_processes: None) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("wsgi"))
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
    assert isinstance(server, Server)
    yield server
    server.check()


@pytest.fixture(scope="module")
def endings(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    server_processes: None,
) -> Iterator[Endings]:
    """The scenarios of the module's selected tests, which all start here."""
    scenarios = wanted(request.session.items, request.module)
    with Endings(tmp_path_factory.mktemp("wsgi-endings"), scenarios) as endings:
        yield endings


def pytest_itemcollected(item: pytest.Item) -> None:
    note(item, WSGI)
