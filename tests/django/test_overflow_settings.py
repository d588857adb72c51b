"""``PENDING_LIMIT`` and ``OVERFLOW`` may change while callbacks are under way."""

import asyncio
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from async_after import Callback, CallbackState, RunnerFull, after_response, get_runner
from async_after._core.runner.dispatch import GIVE_WAY
from async_after.asgi import AfterResponseMiddleware

DEADLINE = 10
SMALL = {"LIMIT": 1, "PENDING_LIMIT": 1}


class Site:
    """An app whose views register what is told here, on the runner of the settings."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.callbacks: list[Callback[Any]] = []
        self._wrapped = AfterResponseMiddleware(self._app, hold=False)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.callbacks.append(after_response(self.go_on.wait))
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def get(self, times: int = 1) -> None:
        async def send(message: Any) -> None: ...

        receive: Any = send  # this app never asks
        for _ in range(times):
            await self._wrapped({"type": "http", "method": "GET", "path": "/"}, receive, send)
            await asyncio.sleep(GIVE_WAY)  # behind the wrapper's own timer

    @property
    def states(self) -> list[str]:
        return [callback.state.name for callback in self.callbacks]

    async def end(self) -> None:
        self.go_on.set()
        await get_runner().drain(DEADLINE)


async def test_overflow_is_read_at_access() -> None:
    site = Site()
    with override_settings(ASYNC_AFTER={**SMALL, "OVERFLOW": "drop"}):
        await site.get(4)
        assert site.states == ["RUNNING", "PENDING", "DROPPED", "DROPPED"]
    with override_settings(ASYNC_AFTER={**SMALL, "OVERFLOW": "raise"}):
        with pytest.raises(RunnerFull, match="pending_limit=1"):
            await site.get()
        assert len(site.callbacks) == 4
    with override_settings(ASYNC_AFTER={**SMALL, "OVERFLOW": "wait"}):
        await site.get()
        assert site.states[4] == "PENDING"
    await site.end()
    assert site.states == ["SUCCEEDED", "SUCCEEDED", "DROPPED", "DROPPED", "SUCCEEDED"]


async def test_another_pending_limit() -> None:
    site = Site()
    settings: dict[str, Any] = {**SMALL, "OVERFLOW": "drop"}
    with override_settings(ASYNC_AFTER=settings):
        await site.get(3)
        with override_settings(ASYNC_AFTER={**settings, "PENDING_LIMIT": 3}):
            await site.get(3)
        assert site.states == ["RUNNING", "PENDING", "DROPPED", "PENDING", "PENDING", "DROPPED"]
        await site.get()  # those that wait already are kept
        assert site.states[3:] == ["PENDING", "PENDING", "DROPPED", "DROPPED"]
    await site.end()
    assert site.callbacks[4].state is CallbackState.SUCCEEDED


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"OVERFLOW": "Drop"}, """must be "wait", "drop" or "raise", not 'Drop'"""),
        ({"OVERFLOW": None}, """must be "wait", "drop" or "raise", not None"""),
        ({"PENDING_LIMIT": 0}, "must be an integer, 1 or more, not 0"),
        ({"SLOW_STEP": 0}, "must be a number of seconds above 0, or None, not 0"),
    ],
)
def test_wrong_bounds_are_told(value: Any, message: str) -> None:
    with override_settings(ASYNC_AFTER=value):
        [error] = [error for error in run_checks() if error.id == "async_after.E001"]
        assert message in str(error.msg)
