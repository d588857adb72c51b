from collections.abc import Iterator

import pytest

from .harness import Config, Server, Servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("servers"))
    yield servers
    servers.stop()


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
