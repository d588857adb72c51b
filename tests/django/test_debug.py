"""``DEBUG = True`` makes errors visible, and what is merely slow."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from async_after import exchange_scope, get_runner
from async_after._core.capacity import reports
from async_after._core.registration import after_response
from async_after._core.runtime.log import logger

from ..core.conftest import DEADLINE, loop_exchange, responding


@pytest.fixture(params=[True, False], ids=["DEBUG", "not DEBUG"])
def is_debug(request: pytest.FixtureRequest) -> Iterator[bool]:
    with override_settings(DEBUG=request.param):
        yield request.param


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record)["event"] for record in caplog.records if record.name == "async_after"]


def fail() -> None:
    raise ValueError("the reason")


@pytest.mark.parametrize("how", ["disabled", "level"])
def test_an_error_that_the_log_swallows(
    is_debug: bool, how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Django's LOGGING disables the loggers of what was imported before it."""
    monkeypatch.setattr(logger, "disabled", how == "disabled")
    logger.setLevel(logging.CRITICAL if how == "level" else logging.NOTSET)
    try:
        with exchange_scope():
            after_response.using(name="mine")(fail)
    finally:
        logger.setLevel(logging.NOTSET)
    shown = capsys.readouterr().err
    assert ("callback mine of exchange_scope() failed" in shown) is is_debug
    assert ("ValueError: the reason" in shown) is is_debug
    assert ("in fail" in shown) is is_debug


def test_an_error_that_the_log_takes_is_not_shown_twice(
    is_debug: bool, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with exchange_scope():
        after_response(fail)
    assert events(caplog) == ["callback_failed"]
    assert "the reason" not in capsys.readouterr().err


def test_a_slow_callback(
    is_debug: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "SLOW", 0.01)
    with exchange_scope():
        after_response(time.sleep, 0.02)
        after_response(int)
    assert events(caplog) == (["callback_slow"] if is_debug else [])
    if is_debug:
        values: Any = vars(caplog.records[0])
        assert values["seconds"] > 0.02
        assert "took 0.0 s" in caplog.text


async def test_a_held_loop_is_named_each_time(
    is_debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def hold() -> None:
        time.sleep(0.02)  # noqa: ASYNC251 -- this is what it is about

    runner = get_runner()
    with override_settings(ASYNC_AFTER={"SLOW_STEP": 0.01}):
        for _ in range(3):
            with responding(loop_exchange(runner)):
                after_response.using(name=f"holds, {is_debug}")(hold)
            await runner.drain(DEADLINE)
    assert events(caplog) == ["callback_blocked_loop"] * (3 if is_debug else 1)
