"""Time that a test has frozen decides nothing, through Django's handlers and test clients."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import override_settings

from async_after import CallbackState
from tests.django.site import views

from ..core.runtime.frozen import CLOCKS, frozen
from .ways import ALL, Way

pytestmark = [
    pytest.mark.parametrize("clock", CLOCKS),
    pytest.mark.parametrize("path", ["/sync", "/async"]),
]


async def coroutine() -> None: ...


FUNCTIONS: list[Callable[[], object]] = [int, coroutine, int]


@ALL
async def test_around_the_request(way: Way, path: str, clock: str) -> None:
    views.todo += FUNCTIONS
    with frozen(clock):
        await way(path)
    assert [c.state for c in views.registered] == [CallbackState.SUCCEEDED] * 3


@ALL
async def test_with_a_timeout(way: Way, path: str, clock: str) -> None:
    """It is in time, though years have gone by."""
    views.todo += FUNCTIONS
    with override_settings(ASYNC_AFTER={"TIMEOUT": 9.0}), frozen(clock):
        await way(path)
    assert [c.state for c in views.registered] == [CallbackState.SUCCEEDED] * 3


@ALL
async def test_in_the_view(
    way: Way, path: str, clock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = views.register

    def register_frozen(**options: Any) -> None:
        with frozen(clock):
            register(**options)

    monkeypatch.setattr(views, "register", register_frozen)
    views.todo += FUNCTIONS
    await way(path)
    assert [c.state for c in views.registered] == [CallbackState.SUCCEEDED] * 3
