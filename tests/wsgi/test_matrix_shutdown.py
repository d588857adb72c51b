"""The WSGI server matrix: SIGTERM while callbacks run and wait, with default settings."""

import signal

import pytest

from ..servers.endings import MAX_THREADS, Endings, Load, Scenario
from .matrix import EVERY_MODE, ROWS, THREADS, Row, parameter


def _scenario(row: Row) -> Scenario:
    # Where it ends at once, they would certainly not have ended by then.
    delay = 1.0 if row.can("SIGTERM") else 5.0
    if row.is_inline:
        return Scenario(row.config, (Load("sync", THREADS[row.server], delay),))
    loads = [Load("sync", MAX_THREADS + 4, delay)]  # four of them wait
    if row.server != "gunicorn gevent":
        # There the gates belong to the hub, and coroutines run in another thread.
        loads.append(Load("async", 4, delay))
    return Scenario(row.config, tuple(loads))


@pytest.mark.promise("drained")
@pytest.mark.first_hour(row=EVERY_MODE)
@pytest.mark.parametrize(("row", "scenario"), [parameter(row, _scenario(row)) for row in ROWS])
@pytest.mark.matrix("SIGTERM")
def test_sigterm(row: Row, scenario: Scenario, endings: Endings) -> None:
    ended = endings[scenario]
    assert ended.running == scenario.at_once
    if row.can("SIGTERM"):
        ended.expect_all()
    else:
        assert ended.lost == ended.unnamed == scenario.paths(), ended
        assert ended.code == (0 if row.needs == "uwsgi" else -signal.SIGTERM)
