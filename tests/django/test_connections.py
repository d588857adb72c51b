"""Database connections of callbacks under a real server (promise 11, no_leaks)."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle

import pytest

from .dbserver import POSTGRESQL, SQLITE, Request, Site, with_sites

POOL = replace(
    POSTGRESQL,
    # The pool gives up what is more than min_size when it was idle for so long.
    pool=(("min_size", 2), ("max_size", 4), ("max_idle", 0.5), ("timeout", 5)),
    max_threads=8,
)
ONE = POSTGRESQL.with_one_thread()


def run_many(site: Site, number: int, *do: str, orm: bool, at_once: int) -> list[Request]:
    """So many requests, by turns to the sync and the async view."""
    kinds = cycle(["sync", "async"])
    with ThreadPoolExecutor(at_once) as clients:
        running = [clients.submit(site.run, next(kinds), *do, orm=orm) for _ in range(number)]
        try:
            return [future.result() for future in running]
        finally:
            clients.shutdown(cancel_futures=True)


@with_sites(SQLITE, POSTGRESQL, SQLITE.alone(), POSTGRESQL.alone())
def test_no_connection_is_left_behind(site: Site) -> None:
    """With CONN_MAX_AGE 0 each callback's own is closed when it has ended."""
    before = site.wait_for_sessions(lambda sessions: not sessions)
    requests = run_many(site, 24, "look", "alook", "alook_by_tasks", "look", orm=True, at_once=6)
    for request in requests:
        assert len(request.results) == 4
    site.wait_for_sessions(lambda sessions: sessions == before)
    assert 1 <= site.state()["workers"] <= site.config.max_threads


@with_sites(SQLITE.persistent(), POSTGRESQL.persistent(), POSTGRESQL.persistent().alone())
def test_persistent_connections_are_reused(site: Site) -> None:
    """With CONN_MAX_AGE 60 there is one for each worker thread, whoever comes."""
    requests = run_many(site, 30, "look", "alook", orm=False, at_once=6)
    seen = [result["session"] for request in requests for result in request.results]
    assert len(seen) == 60
    assert 1 <= len({*seen}) <= site.config.max_threads
    open_sessions = site.sessions()
    assert 1 <= len(open_sessions) <= site.config.max_threads
    if site.config.vendor == "postgresql":
        assert open_sessions == {*seen}


@with_sites(POOL, POOL.alone())
def test_a_psycopg_pool_gets_its_connections_back(site: Site) -> None:
    """A pool that is short of them lets the views fail, not only the callbacks."""
    site.run("async", "look")
    start = site.wait_for_sessions(lambda sessions: len(sessions) == 2)
    # A view that fails raises here.
    requests = run_many(site, 200, "alook", "look", orm=True, at_once=8)
    assert len(requests) == 200
    ended = [ended for request in requests for ended in request.ended]
    assert [e for e in ended if e.state != "SUCCEEDED"] == []
    assert len(ended) == 400
    site.wait_for_sessions(lambda sessions: len(sessions) == len(start))
    pool = site.state()["pool"]
    assert pool["pool_available"] == pool["pool_size"] == 2


@with_sites(SQLITE, POSTGRESQL)
def test_each_async_callback_has_a_thread_of_its_own(site: Site) -> None:
    request = site.run("async", "ameet", "ameet", concurrent=True)
    first, second = request.results
    assert first["thread"] != second["thread"]
    assert first["session"] != second["session"]
    for result in (first, second):
        assert result["thread_name"].startswith("async_after worker")
        assert (result["threads"], result["sessions"]) == (1, 1)
    site.wait_for_sessions(lambda sessions: not sessions)


@with_sites(SQLITE, POSTGRESQL)
def test_tasks_of_an_async_callback_share_its_thread(site: Site) -> None:
    [result] = site.run("async", "alook_by_tasks").results
    assert (result["threads"], result["sessions"]) == (1, 1)
    site.wait_for_sessions(lambda sessions: not sessions)


# With one worker thread: the next callback meets what the last has left.


@pytest.mark.parametrize("do", ["look", "alook", "look_in_atomic", "alook_in_atomic"])
@with_sites(ONE.persistent(), ONE.persistent().alone())
def test_a_connection_that_was_killed_while_idle(site: Site, do: str) -> None:
    """CONN_HEALTH_CHECKS is off, as by default; under WSGI or ASGI a view fails then."""
    [before] = site.run("async", do).results
    assert before["session"] in site.sessions()
    site.kill(before["session"])
    [after] = site.run("sync", do).results
    assert after["session"] != before["session"]
    # And that one is kept again.
    [last] = site.run("async", do).results
    assert last["session"] == after["session"]


@pytest.mark.parametrize("killed", ["be_killed", "abe_killed", "be_killed_quietly"])
@pytest.mark.parametrize("do", ["look", "alook"])
@with_sites(ONE, ONE.persistent())
def test_a_connection_that_was_killed_in_use(site: Site, killed: str, do: str) -> None:
    """The callback that used it fails, or not; the next ones do not notice."""
    request = site.run("async", killed, do)
    first, second = request.ended
    if killed == "be_killed_quietly":
        assert first.state == "SUCCEEDED"
    else:
        assert first.state == "FAILED"
        assert "OperationalError" in (first.error or "")
    assert second.state == "SUCCEEDED", second.error
    assert len(site.run("async", do, do).results) == 2


@with_sites(replace(POSTGRESQL, pool=(("min_size", 2), ("max_size", 4)), has_health_checks=True))
def test_a_pool_with_health_checks_gives_out_no_killed_connection(site: Site) -> None:
    """Whether a pool looks at what it gives out is CONN_HEALTH_CHECKS' business."""
    site.run("async", "look", "alook")
    for session in site.sessions():
        site.kill(session)
    for _ in range(3):
        assert len(site.run("async", "look", "alook", orm=True).results) == 2
