"""Django for these tests: settings, a test database, and what views register."""

import os
from collections.abc import Iterator

import django
import pytest
from django.test.utils import setup_databases, setup_test_environment, teardown_databases

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
