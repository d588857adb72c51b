"""Pytest fixtures over ``async_after.testing``.

Loaded in every pytest run of every project that has async_after: what it needs
it imports when a test asks for it.
"""

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from . import testing


@pytest.fixture
def capture_after_response() -> "type[testing.capture_after_response]":
    """``with capture_after_response() as captured:`` collects the callbacks that
    are registered inside, and with ``execute=True`` runs them at its end."""
    from . import testing

    return testing.capture_after_response


@pytest.fixture
def suppress_after_response() -> Iterator[None]:
    """During this test no callback is run that is registered meanwhile."""
    from . import testing

    with testing.suppress_after_response():
        yield


@pytest.fixture
def raise_callback_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """This test fails if a callback does that is registered meanwhile."""
    from . import testing

    test = getattr(request.node, "obj", None)
    if inspect.iscoroutinefunction(test):
        # Its callbacks may need its event loop, which stands still after it.
        request.node.obj = testing.raise_callback_errors()(test)
    with testing.raise_callback_errors():
        yield
