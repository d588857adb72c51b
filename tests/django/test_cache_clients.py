"""Cache clients of callbacks under a real server: one each, and closed (promise 11, no_leaks)."""

import pytest

from .dbserver import SQLITE, Site, with_sites

SYNC, ASYNC = "meet_with_cache", "ameet_with_cache"


@pytest.mark.parametrize("do", [(SYNC, SYNC), (ASYNC, ASYNC), (SYNC, ASYNC)])
@pytest.mark.parametrize("kind", ["sync", "async"])
@with_sites(SQLITE, SQLITE.alone())
def test_no_cache_client_is_shared(site: Site, kind: str, do: tuple[str, str]) -> None:
    """By the view and two callbacks that run at the same time."""
    request = site.run(kind, *do, concurrent=True)
    clients = {result["client"] for result in request.results}
    assert len({*clients, request.response["client"]}) == 3
    for result in request.results:
        assert result["is_same"]
        assert result["closed"] == 0  # while it was in use
    times = closed(site)
    assert [times[client] for client in clients] == [1, 1]


@with_sites(SQLITE, SQLITE.alone())
def test_each_cache_client_is_closed(site: Site) -> None:
    """Also when its callback has failed."""
    before = closed(site)
    request = site.run("async", "fail_with_cache", "afail_with_cache", "use_cache")
    assert [e.state for e in request.ended] == ["FAILED", "FAILED", "SUCCEEDED"]
    # The view's own is closed by Django, and before 6.1 by nobody.
    those_before = {*before, request.response["client"]}
    times = [times for client, times in closed(site).items() if client not in those_before]
    assert times == [1, 1, 1]


def closed(site: Site) -> dict[int, int]:
    """How often each client has been closed."""
    return {client["number"]: client["closed"] for client in site.state()["clients"]}
