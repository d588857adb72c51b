from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .serving import Site


class Sites:
    """One for each server, started when first asked for."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._running: dict[str, Site] = {}

    def get(self, server: str) -> Site:
        if server not in self._running:
            site = self._running[server] = Site(server, self._directory / server)
            self._stack.callback(site.stop)
        return self._running[server]


SERVERS = ["uvicorn", "gunicorn-gthread"]


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory, server_processes: None) -> Iterator[Sites]:
    with ExitStack() as stack:
        yield Sites(tmp_path_factory.mktemp("recipes"), stack)


@pytest.fixture(params=SERVERS)
def site(request: pytest.FixtureRequest, sites: Sites) -> Site:
    """The project under uvicorn, in the ASGI wrapper; and under gunicorn, with the
    Django middleware alone."""
    return sites.get(request.param)
