"""Promise 10, drained, where a server is told to end while callbacks run.

100 callbacks of 2 s complete on every server that
speaks lifespan, on daphne, and with the middleware alone under uvicorn; where
the limits are too short for them, the process ends in time and names each.
"""

import pytest

from .endings import Endings, Scenario, both, ctrl_c, each, nothing
from .matrix import EVERY_MODE, HELD, Row

PATIENT = ("daphne", "gunicorn-asgi")
"""Servers that cancel the ASGI coroutine some time after the response."""

TOO_LONG = both(5, delay=6)
"""For those that have to lose some: they may still serve for a few seconds."""


@pytest.mark.matrix("long")
@each(
    lambda row: Scenario(row.config, both(2, delay=13, gated=False), nothing, ends=False),
    lambda row: row.config.server in PATIENT,
)
def test_13_s_though_the_client_has_left(endings: Endings, row: Row, scenario: Scenario) -> None:
    """daphne cancels the ASGI coroutine 10 s after the response, gunicorn's
    own worker 3 s after the client has left."""
    endings[scenario].expect_all()


@pytest.mark.promise("drained")
@pytest.mark.first_hour(row=EVERY_MODE)
@pytest.mark.matrix("SIGTERM")
@each(lambda row: Scenario(row.config, both(50) if row.can("SIGTERM") else TOO_LONG))
def test_sigterm(endings: Endings, row: Row, scenario: Scenario) -> None:
    """100 callbacks of 2 s, with default settings."""
    ended = endings[scenario]
    assert ended.running >= scenario.at_once, ended
    if row.can("SIGTERM"):
        ended.expect_all()
    else:
        ended.expect_named()


@pytest.mark.matrix("Ctrl-C")
@each(lambda row: Scenario(row.config, both(5) if row.can("Ctrl-C") else TOO_LONG, ctrl_c))
def test_ctrl_c(endings: Endings, row: Row, scenario: Scenario) -> None:
    ended = endings[scenario]
    assert ended.running >= scenario.at_once, ended
    if row.can("Ctrl-C"):
        ended.expect_all()
    else:
        ended.expect_named()


def too_long(row: Row) -> Scenario:
    config = row.config.settings(WAIT_TIMEOUT=1, CLOSE_TIMEOUT=1)
    if not row.can("named"):
        return Scenario(config, both(10, delay=4))
    return Scenario(config, both(50, delay=60, gated=False))


@pytest.mark.matrix("named")
@each(too_long)
def test_lost_ones_are_named(endings: Endings, row: Row, scenario: Scenario) -> None:
    """100 callbacks of 60 s and limits of 1 s each: far from the 30 s after
    which gunicorn and Kubernetes kill."""
    ended = endings[scenario]
    assert ended.seconds < 10, ended
    if row.can("named"):
        assert len(ended.lost) == 100, ended
        ended.expect_named()
    else:
        ended.expect_all()


@each(
    lambda row: Scenario(
        row.config.settings(WAIT_TIMEOUT=3, CLOSE_TIMEOUT=1), both(5, delay=60, gated=False)
    ),
    lambda row: row.config.server == "daphne" and row.mode == HELD,
)
def test_waits_once_where_it_is_told_twice(endings: Endings, row: Row, scenario: Scenario) -> None:
    """By the cancellation of what is held, and by the exit of the interpreter:
    both timeouts together stay below the 30 s after which others kill."""
    ended = endings[scenario]
    assert ended.seconds < 3 + 1 + 2.5, ended
    ended.expect_named()
