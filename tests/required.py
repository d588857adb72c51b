"""What may not be missing on this machine, and tests that take minutes."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

F = TypeVar("F", bound=Callable[..., Any])

REQUIRED = "ASYNC_AFTER_REQUIRE"
"""Environment variable: names of what may not be missing, so that no test is skipped for it."""


def is_required(name: str) -> bool:
    return name in os.environ.get(REQUIRED, "").replace(",", " ").split()


def soak(test: F) -> F:
    """It loads servers for a while."""
    marked: F = pytest.mark.usefixtures("server_processes")(pytest.mark.soak(test))
    return marked
