"""The same views, unchanged, in six set-ups: under uvicorn and under gunicorn's
threads, wrapped and with the Django middleware alone, and through Django's test clients.

No test asks which one it is. Where promises differ, ``setups.Setup`` says so.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.servers.harness import wait_until

from .setups import Site, Visit

pytestmark = pytest.mark.first_hour

BODY = "Après la réponse.\n".encode()
FILE = b"0123456789abcdef" * 20_000
STREAM = b"one two three"

KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


def outcome_of(visit: Visit) -> dict[str, Any]:
    """What the callback that takes it has noted."""
    outcomes = [note for note in visit.notes if isinstance(note, dict)]
    assert len(outcomes) == 1, visit
    found: dict[str, Any] = outcomes[0]
    assert found["path"].endswith(f"/{visit.ident}")
    return found


def check_sent(visit: Visit, *, body_bytes: int | None, is_success: bool = True) -> None:
    outcome = outcome_of(visit)
    assert outcome["completion"] == "SENT"
    assert outcome["status"] == visit.reply.status
    assert outcome["body_bytes"] == body_bytes
    assert outcome["is_success"] is is_success
    assert set(visit.states) == {"SUCCEEDED"}


# Responses of all kinds.


@KINDS
@pytest.mark.parametrize("status", [200, 204, 302, 418, 503])
def test_plain(site: Site, kind: str, status: int) -> None:
    visit = site.visit(f"{kind}/plain", f"?status={status}", callbacks=3)
    assert visit.reply.status == status
    assert visit.reply.body == (b"" if status == 204 else BODY)
    assert visit.notes[:3] == ["view", "plain", "async"]
    check_sent(visit, body_bytes=len(visit.reply.body), is_success=status < 400)
    outcome = outcome_of(visit)
    assert outcome["method"] == "GET"
    assert outcome["error"] is None
    assert outcome["type"] == "text/html; charset=utf-8"


@KINDS
def test_head(site: Site, kind: str) -> None:
    visit = site.visit(f"{kind}/plain", callbacks=3, method="HEAD")
    assert visit.reply.body == b""
    check_sent(visit, body_bytes=0)
    assert outcome_of(visit)["method"] == "HEAD"


@pytest.mark.promise("outside_in", "never_before")
@KINDS
@pytest.mark.parametrize("view", ["streams", "astreams"])
def test_a_stream_registers(site: Site, kind: str, view: str) -> None:
    """No callback starts while the stream goes on, whoever iterates it where."""
    visit = site.visit(f"{kind}/{view}", callbacks=5)
    assert visit.reply.body == STREAM
    assert visit.notes[:5] == ["stream", "first", "one ", "two ", "three"]
    check_sent(visit, body_bytes=len(STREAM))


@KINDS
def test_a_file(site: Site, kind: str) -> None:
    visit = site.visit(f"{kind}/sends_file", callbacks=3)
    assert visit.reply.body == FILE
    assert visit.notes[:3] == ["view", "plain", "async"]
    check_sent(visit, body_bytes=len(FILE) if site.setup.counts_files else None)
    assert outcome_of(visit)["type"] == "x/file"


@KINDS
def test_a_redirect(site: Site, kind: str) -> None:
    visit = site.visit(f"{kind}/redirects", callbacks=3)
    assert visit.reply.status == 302
    assert visit.reply.headers["location"] == "/elsewhere"
    assert visit.notes[:2] == ["plain", "async"]
    check_sent(visit, body_bytes=0)


@KINDS
def test_not_found(site: Site, kind: str) -> None:
    visit = site.visit(f"{kind}/is_missing", callbacks=3)
    assert visit.reply.status == 404
    assert b"Not Found" in visit.reply.body
    check_sent(visit, body_bytes=len(visit.reply.body), is_success=False)


@KINDS
def test_a_view_that_raises(site: Site, kind: str) -> None:
    visit = site.visit(f"{kind}/raises", callbacks=3)
    assert visit.reply.status == 500
    assert visit.notes[:2] == ["plain", "async"]
    check_sent(visit, body_bytes=len(visit.reply.body), is_success=False)
    error = "LookupError" if site.setup.knows_what_views_raise else None
    assert outcome_of(visit)["error"] == error


@KINDS
def test_a_replaced_response(site: Site, kind: str) -> None:
    """What is registered belongs to the exchange."""
    visit = site.visit(f"{kind}/matches", callbacks=3, headers={"If-None-Match": '"fixed"'})
    assert visit.reply.status == 304
    assert visit.reply.body == b""
    check_sent(visit, body_bytes=0)


# Options.


@KINDS
@pytest.mark.parametrize(
    ("status", "ran"),
    [
        ("200", ["success", "200 or 500"]),
        ("302", ["success"]),
        ("404", ["error"]),
        ("500", ["error", "200 or 500"]),
        ("raise", ["error", "200 or 500"]),
    ],
)
def test_when(site: Site, kind: str, status: str, ran: list[str]) -> None:
    visit = site.visit(f"{kind}/when", f"?status={status}", callbacks=4)
    assert visit.notes == ran
    names = ["success", "disconnect", "error", "200 or 500"]
    assert visit.states == ["SUCCEEDED" if name in ran else "SKIPPED" for name in names]


@pytest.mark.promise("in_order")
@KINDS
def test_in_order(site: Site, kind: str) -> None:
    visit = site.visit(f"{kind}/keeps_order", callbacks=8)
    assert visit.notes == [*range(8)]
    assert [callback["result"] for callback in visit.callbacks] == [*range(8)]


@KINDS
def test_a_key(site: Site, kind: str) -> None:
    """The last one counts, where it was registered."""
    visit = site.visit(f"{kind}/replaces", callbacks=5)
    assert visit.notes == [1, 2, 3, 4]
    assert visit.states == ["CANCELLED", *["SUCCEEDED"] * 4]


@KINDS
def test_callbacks_register_more(site: Site, kind: str) -> None:
    visit = site.visit(f"{kind}/registers_more", callbacks=4)
    assert visit.notes == ["more", "before them", "amore", "last"]
    assert set(visit.states) == {"SUCCEEDED"}


@KINDS
@pytest.mark.parametrize(
    "of", [("async", "async"), ("async", "sync"), ("sync", "sync")], ids="-".join
)
def test_concurrent_ones_overlap(site: Site, kind: str, of: tuple[str, str]) -> None:
    if of == ("sync", "sync") and not site.setup.has_callback_threads:
        pytest.skip("plain functions run in the thread of the test, one after the other")
    visit = site.visit(f"{kind}/meets", f"?of={of[0]}&of={of[1]}", callbacks=2)
    assert visit.states == ["SUCCEEDED"] * 2, visit


@KINDS
def test_a_concurrent_one_holds_nobody_up(site: Site, kind: str) -> None:
    visit = site.visit(f"{kind}/overtakes", callbacks=4)
    assert visit.notes == ["first", "second", "concurrent"]
    assert visit.states == ["SUCCEEDED"] * 4


# States.


@pytest.mark.promise("once_or_accounted")
@KINDS
def test_states(site: Site, kind: str) -> None:
    visit = site.visit(f"{kind}/ends_in_all_ways", callbacks=8)
    has_cancelled, *before = visit.notes[:9]
    assert has_cancelled is True
    assert before == [
        *[["PENDING", "InvalidStateError"]] * 6,
        ["CANCELLED", "CallbackNotRun"],
        ["PENDING", "InvalidStateError"],
    ]
    assert visit.notes[9:] == ["result", "aresult", "last"]
    assert visit.states == [
        "SUCCEEDED",
        "FAILED",
        "SUCCEEDED",
        "FAILED",
        "SKIPPED",
        "TIMED_OUT",
        "CANCELLED",
        "SUCCEEDED",
    ]
    results = [callback["result"] for callback in visit.callbacks]
    assert results == ["result", None, "aresult", None, None, None, None, "last"]


@pytest.mark.promise("isolated")
@KINDS
def test_failures_are_logged(site: Site, kind: str) -> None:
    """With callback, method, path, status and traceback; those behind them ran."""
    visit = site.visit(f"{kind}/ends_in_all_ways", callbacks=8)
    path = f"/{kind}/ends_in_all_ways/{visit.ident}"
    logged = site.stderr()
    for name, message in (("fail", "plain"), ("afail", "async")):
        assert f"LookupError: the {message} one of {visit.ident}\n" in logged
        assert [
            line
            for line in logged.splitlines()
            if f"work.{name} of " in line and f"GET {path} (200) failed" in line
        ], logged[-3000:]
    assert visit.callbacks[1]["error"] == f"LookupError('the plain one of {visit.ident}')"
    assert visit.callbacks[3]["error"] == f"LookupError('the async one of {visit.ident}')"
    assert visit.callbacks[7]["state"] == "SUCCEEDED"


# Context.


@pytest.mark.promise("context_kept")
@KINDS
def test_translation_override_holds(site: Site, kind: str) -> None:
    """Around a registration, in a sync and an async callback, in every set-up."""
    visit = site.visit(f"{kind}/speaks_french", callbacks=4, headers={"Accept-Language": "es"})
    assert visit.reply.body.decode() == "lunes"
    assert visit.notes == [["fr", "lundi", "not set"]] * 2 + [["es", "lunes", "not set"]] * 2


@pytest.mark.promise("context_kept")
@KINDS
def test_context_variables(site: Site, kind: str) -> None:
    visit = site.visit(f"{kind}/sets_variable", callbacks=4)
    assert visit.notes == [["en", "Monday", "first"]] * 2 + [["en", "Monday", "second"]] * 2


@KINDS
def test_the_user_of_the_request(site: Site, kind: str) -> None:
    visit = site.visit(f"{kind}/greets", callbacks=2, headers={"X-User": "ada"})
    assert visit.notes == ["ada", "ada"]
    assert visit.states == ["SUCCEEDED"] * 2


# Database.


def _open_connections(process: int, database: Path) -> int:
    """How often this process has the file open."""
    found = 0
    for link in Path(f"/proc/{process}/fd").iterdir():
        try:
            found += os.readlink(link) == str(database.resolve())
        except FileNotFoundError:  # just closed
            pass
    return found


@pytest.mark.promise("no_leaks")
@KINDS
def test_the_database(site: Site, kind: str) -> None:
    """A plain function uses the ORM, a coroutine function the async ORM; no
    connection stays open that was not before."""
    visits = [site.visit(f"{kind}/writes", callbacks=4) for _ in range(3)]
    for visit in visits:
        assert visit.states == ["SUCCEEDED"] * 4, visit
        # The view has written the first row.
        assert [callback["result"] for callback in visit.callbacks] == [2, 3, 4, 1]
    with closing(sqlite3.connect(site.database)) as database:
        found = database.execute("SELECT text, COUNT(*) FROM everywhere_row GROUP BY text")
        rows = dict(found.fetchall())
    for visit in visits:
        assert rows[visit.ident] == 4
        assert rows[f"concurrent {visit.ident}"] == 1
    process = visits[0].process
    wait_until(
        lambda: _open_connections(process, site.database) == site.setup.connections,
        lambda: f"{_open_connections(process, site.database)} connections are open",
    )


# Scopes, threads.


@KINDS
def test_a_scope_inside_a_view(site: Site, kind: str) -> None:
    """Its callbacks run at its end, and the exchange's after the response."""
    visit = site.visit(f"{kind}/opens_scope", callbacks=4)
    assert visit.notes == [
        *["in scope", "scope", "async in scope"],
        *["view", "exchange", "async in exchange"],
    ]


@pytest.mark.promise("late")
@KINDS
def test_a_thread_registers_late(site: Site, kind: str) -> None:
    visit = site.visit(f"{kind}/is_late", callbacks=3)
    assert visit.notes == ["no exchange", "view", "early", "late", "late and async"]
    assert visit.states == ["SUCCEEDED"] * 3


@pytest.mark.promise("late")
@KINDS
def test_registering_for_a_request_that_is_over(site: Site, kind: str) -> None:
    """Nothing is silently dropped: it runs at once, with the outcome of that request."""
    over = site.visit(f"{kind}/is_kept", callbacks=0)
    visit = site.visit(f"{kind}/registers_for", f"?ident={over.ident}", callbacks=2)
    assert visit.states == ["SUCCEEDED"] * 2
    outcome, after = visit.notes
    assert after == "async"
    assert outcome["path"] == f"/{kind}/is_kept/{over.ident}"
    assert outcome["completion"] == "SENT"
