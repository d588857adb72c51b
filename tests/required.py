"""Tests that take minutes, and run where ``ASYNC_AFTER_REQUIRE`` names them."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

F = TypeVar("F", bound=Callable[..., Any])

IS_SOAK_REQUIRED = "soak" in os.environ.get("ASYNC_AFTER_REQUIRE", "").replace(",", " ").split()


def soak(test: F) -> F:
    """It loads servers for a while."""
    skip = pytest.mark.skipif(not IS_SOAK_REQUIRED, reason='slow: ASYNC_AFTER_REQUIRE="soak"')
    marked: F = skip(pytest.mark.soak(test))
    return marked
