"""Servers that replace a worker while its callbacks run, and several workers.

What a worker holds when its server recycles it is drained as at a shutdown.
"""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest

from .endings import Endings, Scenario, both, ctrl_c, each, sigterm, wait_for_log
from .harness import Server
from .launch import Config
from .matrix import WRAPPED, Row

COUNT = 10
REQUESTS = 2 * COUNT


@dataclass(frozen=True)
class Recycling:
    """How a server comes to replace its worker after ``REQUESTS`` requests."""

    args: tuple[str, ...]
    begin: Callable[[Server], None]
    ends: bool = False


def stopped_by_uvicorn(server: Server) -> None:
    wait_for_log(server, f"Maximum request limit of {REQUESTS} exceeded")
    wait_for_log(server, "Shutting down")


def stopped_by_gunicorn(server: Server) -> None:
    wait_for_log(server, "Autorestarting worker after current request.")


def stopped_by_hypercorn(server: Server) -> None:
    """At one more than it may serve; it does not say so."""
    assert server.get("/plain-async/last").status == 200


def respawned_by_granian(server: Server) -> None:
    """As after ``--workers-lifetime``, which cannot be less than a minute."""
    server.signal(signal.SIGHUP)
    wait_for_log(server, "Stopping old worker-1")
    # Told to end while it starts, the new one would not notice.
    wait_for_log(server, "Started worker-1", 2)


RECYCLINGS: Mapping[str, Recycling] = {
    "uvicorn": Recycling(("--limit-max-requests", f"{REQUESTS}"), stopped_by_uvicorn, ends=True),
    "hypercorn": Recycling(("--max-requests", f"{REQUESTS}"), stopped_by_hypercorn),
    "granian": Recycling(("--respawn-interval", "0.1"), respawned_by_granian),
    "gunicorn-uvicorn": Recycling(("--max-requests", f"{REQUESTS}"), stopped_by_uvicorn),
    "gunicorn-asgi": Recycling(("--max-requests", f"{REQUESTS}"), stopped_by_gunicorn),
}


def recycled(row: Row) -> Scenario:
    recycling = RECYCLINGS[row.config.server]
    config = replace(row.config, args=recycling.args)
    return Scenario(config, both(COUNT, delay=0.2), recycling.begin, recycling.ends)


def is_recycled(row: Row) -> bool:
    # gunicorn's own worker counts a request when the app has returned, and so
    # does not come to its limit while that is held.
    is_counted_late = row.config.server == "gunicorn-asgi" and row.mode != WRAPPED
    return row.config.server in RECYCLINGS and row.config.workers == 1 and not is_counted_late


@pytest.mark.matrix("recycle")
@each(recycled, is_recycled)
def test_recycled_by_the_server(endings: Endings, row: Row, scenario: Scenario) -> None:
    ended = endings[scenario]
    assert ended.running >= scenario.at_once, ended
    if row.can("recycle"):
        ended.expect_all()
    else:
        ended.expect_named()


def restarted_by_uvicorn(server: Server) -> None:
    server.signal(signal.SIGHUP)
    wait_for_log(server, "Terminated child process")


def scenarios(*scenarios: Scenario) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scenario", scenarios, ids=str)


@scenarios(
    *(
        Scenario(Config(server=name, workers=2), both(20))
        for name in ("uvicorn", "hypercorn", "granian")
    ),
    Scenario(Config(workers=2), both(20), restarted_by_uvicorn, ends=False),
)
def test_several_workers(endings: Endings, scenario: Scenario) -> None:
    ended = endings[scenario]
    assert len(ended.pids) == 2, ended
    ended.expect_all()


@scenarios(
    *(
        Scenario(Config(server=name, workers=2, args=("--preload",)), both(20))
        for name in ("gunicorn-uvicorn", "gunicorn-asgi")
    )
)
def test_forked_after_the_app_was_imported(endings: Endings, scenario: Scenario) -> None:
    """Importing the app makes nothing that a fork does not survive."""
    ended = endings[scenario]
    assert len(ended.pids) == 2, ended
    assert ended.pid not in ended.pids, ended
    ended.expect_all()


IMPATIENT = Config(args=("--timeout-graceful-shutdown", "1"))


@scenarios(Scenario(IMPATIENT, both(COUNT, delay=3)))
def test_longer_than_uvicorns_graceful_timeout(endings: Endings, scenario: Scenario) -> None:
    """It bounds the ASGI coroutines, and not ``lifespan.shutdown``, where the drain is."""
    ended = endings[scenario]
    assert ended.running >= scenario.at_once, ended
    ended.expect_all()


@scenarios(
    *(
        Scenario(
            replace(IMPATIENT, lifespan="off").settings(WAIT_TIMEOUT=3, CLOSE_TIMEOUT=1),
            both(COUNT, delay=60, gated=False),
            end,
        )
        for end in (sigterm, ctrl_c)
    )
)
def test_lost_at_uvicorns_graceful_timeout(endings: Endings, scenario: Scenario) -> None:
    """Without lifespan there is only the held coroutine, which is cancelled then."""
    ended = endings[scenario]
    assert ended.seconds < 1 + 3 + 1 + 2.5, ended
    assert len(ended.lost) == REQUESTS, ended
    ended.expect_named()
