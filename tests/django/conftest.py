"""Django for these tests: settings, a test database, and what views register."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import django
import pytest
from django.test.utils import setup_databases, setup_test_environment, teardown_databases

from tests.required import is_required

from . import postgresql
from .dbserver import Site, Sites

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.site.settings")
django.setup()

from tests.django.site import views  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def database() -> Iterator[None]:
    setup_test_environment(debug=False)
    config = setup_databases(verbosity=0, interactive=False)
    yield
    teardown_databases(config, verbosity=0)


@pytest.fixture(autouse=True)
def fresh_views() -> None:
    views.todo.clear()
    views.registered.clear()
    views.entered.clear()
    views.go_on.clear()


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory, server_processes: None) -> Iterator[Sites]:
    """Processes that serve a site, and the PostgreSQL of those that want one."""
    with ExitStack() as stack:
        sites = Sites(tmp_path_factory.mktemp("sites"), lambda: _start_postgresql(stack))
        try:
            yield sites
        finally:
            sites.stop()


@pytest.fixture
def site(request: pytest.FixtureRequest, sites: Sites) -> Site:
    """The one of the test's parameter (``dbserver.with_sites``)."""
    site: Site = sites.get(request.param)
    return site


def _start_postgresql(stack: ExitStack) -> postgresql.PostgreSQL:
    programs = postgresql.find_programs()
    if programs is None:
        missing = "no PostgreSQL: neither on the path nor below /usr/lib/postgresql"
        if is_required("postgresql"):
            pytest.fail(missing)
        pytest.skip(missing)
    return stack.enter_context(postgresql.running(programs))
