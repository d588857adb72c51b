import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from .setups import NAME, SETUPS, Site


@pytest.fixture(scope="module", params=SETUPS, ids=str)
def site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    server_processes: None,
) -> Iterator[Site]:
    """The project, served in each of the set-ups in turn."""
    directory = tmp_path_factory.mktemp("everywhere")
    with closing(sqlite3.connect(directory / NAME)) as database:
        database.execute("CREATE TABLE everywhere_row (id INTEGER PRIMARY KEY, text TEXT)")
    site = Site(request.param, directory)
    yield site
    site.stop()
