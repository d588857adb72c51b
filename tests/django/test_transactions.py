"""Transactions of callbacks under a real server, which has one worker thread."""

import pytest

from .dbserver import EACH_WITH_ONE_THREAD, Site, with_sites


@pytest.mark.parametrize("do", ["look", "alook"])
@pytest.mark.parametrize(
    ("wrong", "state"),
    [
        ("leave_transaction", "SUCCEEDED"),
        ("aleave_transaction", "SUCCEEDED"),
        ("raise_in_atomic", "FAILED"),
        ("araise_in_atomic", "FAILED"),
        ("break_transaction", "FAILED"),
        ("abreak_transaction", "FAILED"),
    ],
)
@with_sites(*EACH_WITH_ONE_THREAD)
def test_a_transaction_is_not_handed_on(site: Site, wrong: str, state: str, do: str) -> None:
    [before] = site.run("async", do).results
    request = site.run("async", wrong, do, do)
    assert request.ended[0].state == state, request.ended
    for ended in request.ended[1:]:
        assert ended.state == "SUCCEEDED", ended.error
        assert ended.result["thread"] == before["thread"]
        assert ended.result["rows"] == before["rows"]
        assert ended.result["autocommit"]
        assert not ended.result["is_in_atomic"]


@with_sites(*EACH_WITH_ONE_THREAD)
def test_a_transaction_of_an_async_callback_is_committed(site: Site) -> None:
    [before] = site.run("async", "alook").results
    inserted, after = site.run("async", "ainsert", "look").results
    assert inserted["is_in_atomic"]
    assert inserted["rows"] == after["rows"] == before["rows"] + 1


# More callbacks than threads: another one comes into the thread of an async one.


@pytest.mark.parametrize("do", ["look", "alook", "raise_in_atomic"])
@with_sites(*EACH_WITH_ONE_THREAD)
def test_a_connection_in_use_is_left_alone(site: Site, do: str) -> None:
    """An async callback fetches from it, row by row."""
    assert len(site.run("async", "insert", "insert_another").results) == 2
    fetching = site.start("async", "iterate")
    assert len(site.run("async", "has_begun").results) == 1
    try:
        assert len(site.run("async", do).ended) == 1
    finally:
        assert len(site.run("async", "go_on").results) == 1
    [found] = fetching.results
    [after] = site.run("async", "look").results
    assert found["rows"] == after["rows"] >= 2
