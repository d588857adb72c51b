"""Promises that hold in all set-ups alike, in the same views."""

import pytest

from .setups import LIMIT, PENDING_LIMIT, Site
from .test_everywhere import BODY, KINDS

pytestmark = pytest.mark.first_hour

SECRET = {
    "X-Secret": "secret-header",
    "Cookie": "who=secret-cookie",
    "Authorization": "Bearer secret-token",
}


@pytest.mark.promise("bounded")
@KINDS
@pytest.mark.parametrize("of", ["sync", "async", "both"])
def test_bounded(site: Site, kind: str, of: str) -> None:
    """``LIMIT`` run at once, no more and no fewer, and other requests are answered meanwhile."""
    if not site.setup.has_limit:
        pytest.skip("a test client runs callbacks inline, and bounds none")
    visit = site.visit(f"{kind}/crowds", f"?of={of}", callbacks=3 * LIMIT + 1)
    assert visit.reply.body == BODY
    assert visit.states == ["SUCCEEDED"] * (3 * LIMIT + 1), visit
    assert visit.callbacks[-1]["result"] == LIMIT


@pytest.mark.promise("sealed")
@KINDS
def test_sealed(site: Site, kind: str) -> None:
    """Complete before the first callback sees it, and the same for the last."""
    visit = site.visit(f"{kind}/seals", callbacks=3)
    assert visit.states == ["SUCCEEDED"] * 3, visit
    refused, seen = ["FrozenInstanceError"] * 2, visit.notes[2]
    assert seen[:3] == ["SENT", 200, len(BODY)]
    assert seen[3] > 0
    assert visit.notes == [*refused, seen] * 3


@pytest.mark.promise("discreet")
@KINDS
def test_discreet(site: Site, kind: str) -> None:
    """Arguments, query string, headers and cookies are in no log line, and in no repr."""
    visit = site.visit(f"{kind}/hides", "?token=secret-query", callbacks=4, headers=SECRET)
    assert visit.states == ["FAILED", "FAILED", "TIMED_OUT", "SUCCEEDED"]
    assert len(visit.notes) == 5
    assert "secret" not in str(visit.notes)
    log = site.stderr()
    path = f"GET /{kind}/hides/{visit.ident} (200)"
    for name, became in (("fail", "failed"), ("afail", "failed"), ("never_end", "timed out")):
        assert f"promises.{name} of {path} {became}" in log
    assert "secret-" not in log, log[-3000:]


@pytest.mark.promise("discreet", "once_or_accounted")
def test_what_is_dropped_is_named_discreetly(site: Site) -> None:
    """All that were registered are told: those that may wait have run, the newest are dropped.

    Only one kind of view: drops are logged once a second.
    """
    if not site.setup.has_limit:
        pytest.skip("a test client runs callbacks inline, and drops none")
    number = LIMIT + PENDING_LIMIT + 3
    query = "?token=secret-query"
    visit = site.visit("sync/overflows", query, callbacks=number, headers=SECRET)
    ran = visit.states.count("SUCCEEDED")
    assert visit.states == ["SUCCEEDED"] * ran + ["DROPPED"] * (number - ran), visit
    assert LIMIT <= ran < number
    log = site.stderr()
    assert f"promises._hold of GET /sync/overflows/{visit.ident} (200) was dropped" in log
    assert "secret-" not in log, log[-3000:]


@pytest.mark.promise("outside_in")
@KINDS
def test_outside_in(site: Site, kind: str) -> None:
    """The exchange of the request is current in the view, in what the view starts, in each step
    of the body and in ``close()``, whoever calls them where."""
    own = ["task"] if kind == "async" else []
    places = ["view", "thread", *own, *["step"] * 3, "close"]
    visit = site.visit(f"{kind}/looks_around", callbacks=len(places))
    assert visit.reply.body == b"one two three"
    assert visit.notes == [[place, True] for place in places]
    assert [callback["result"] for callback in visit.callbacks] == places


@pytest.mark.promise("in_context")
@KINDS
def test_in_context(site: Site, kind: str) -> None:
    """The log says in the context of each callback what became of it."""
    visit = site.visit(f"{kind}/is_told_of", callbacks=4)
    assert visit.states == ["FAILED", "FAILED", "TIMED_OUT", "SUCCEEDED"]
    events = ["callback_failed", "callback_failed", "callback_timed_out"]
    assert visit.callbacks[-1]["result"] == [[event, "of the view"] for event in events]
