"""``on_commit`` under real servers and databases: transactions that end in the view."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from .dbserver import POSTGRESQL, SQLITE, Ended, Site, with_sites

WSGI = replace(POSTGRESQL, server="waitress")
INLINE = replace(WSGI, wsgi_lane="inline")
SITES = [
    replace(site, has_other=True)
    for site in (
        SQLITE,
        SQLITE.alone(),
        replace(SQLITE, server="waitress"),
        POSTGRESQL,
        POSTGRESQL.alone(),
        WSGI,
        WSGI.alone(),
        INLINE,
    )
]
ON_POSTGRESQL = [site for site in SITES if site.vendor == "postgresql"]
ATOMIC = [
    replace(site, is_atomic=True) for site in (SQLITE, POSTGRESQL, POSTGRESQL.alone(), WSGI, INLINE)
]
KINDS = ["commits/sync", "commits/async"]

# For each transaction what becomes of the callbacks, in the order of their
# registration, and what they see.
OUTCOMES: dict[str, tuple[dict[str, str], list[str]]] = {
    "committed": ({"sync": "SUCCEEDED", "async": "SUCCEEDED"}, ["row"]),
    "rolled_back": ({"sync": "SKIPPED", "async": "SKIPPED"}, []),
    "marked_for_rollback": ({"before": "SKIPPED", "after": "SKIPPED"}, []),
    "savepoint_rolled_back": (
        {"before": "SUCCEEDED", "inside": "SKIPPED", "behind": "SUCCEEDED"},
        ["outer"],
    ),
    "nested": (
        {"released in a rolled back one": "SKIPPED", "released": "SUCCEEDED"},
        ["1", "3"],
    ),
    # Django tells its hooks of the savepoints of atomic() alone.
    "savepoint_by_hand": ({"inside": "SUCCEEDED"}, ["outer"]),
    "without_savepoint": ({"outer": "SKIPPED", "inner": "SKIPPED"}, []),
    "refused_at_commit": ({"never": "SKIPPED"}, []),
    "without_transaction": ({"at once": "SUCCEEDED"}, ["row"]),
    "with_key": ({"first": "CANCELLED", "second": "SUCCEEDED"}, ["row"]),
    "cancelled": ({"cancelled": "CANCELLED"}, []),
    "with_when": (
        {
            "success": "SUCCEEDED",
            "error": "SKIPPED",
            "predicate": "SUCCEEDED",
            "concurrent": "SUCCEEDED",
        },
        ["row"],
    ),
    "closed": ({"before": "SKIPPED", "behind": "SKIPPED"}, []),
    "atomic_by_hand": ({"committed": "SUCCEEDED"}, ["row"]),
}


def succeeded(site: Site, ended: list[Ended]) -> list[Any]:
    wrong = [one for one in ended if one.state not in ("SUCCEEDED", "SKIPPED", "CANCELLED")]
    assert not wrong, f"{wrong}\n{site.report()}"
    return [one.result for one in ended if one.state == "SUCCEEDED"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OUTCOMES)
@with_sites(*SITES)
def test_the_transaction_decides(site: Site, name: str, kind: str) -> None:
    states, rows = OUTCOMES[name]
    request = site.visit(f"/{kind}/{name}")
    assert request.response == {"error": None}
    found = succeeded(site, request.ended)
    assert [ended.state for ended in request.ended] == [*states.values()]
    for result in found:
        # What was committed, all of it and nothing else, and seen from outside.
        assert result["rows"] == rows
        assert result["autocommit"]
        if site.config.vendor == "postgresql" and site.config.wsgi_lane == "threads":
            assert result["session"] != result["session_of_view"]


@pytest.mark.parametrize(
    ("name", "states", "rows"),
    [
        ("acommitted", ["SUCCEEDED", "SUCCEEDED"], ["row"]),
        ("arolled_back", ["SKIPPED", "SKIPPED"], []),
        ("awithout_transaction", ["SUCCEEDED", "SUCCEEDED"], ["row"]),
    ],
)
@with_sites(*SITES)
def test_a_coroutine_registers(site: Site, name: str, states: list[str], rows: list[str]) -> None:
    """In a transaction that is open over several awaits."""
    request = site.visit(f"/commits/async/{name}")
    assert request.response == {"error": None}
    found = succeeded(site, request.ended)
    assert [ended.state for ended in request.ended] == states
    assert [result["rows"] for result in found] == [rows for _ in found]


@pytest.mark.parametrize("kind", KINDS)
@with_sites(*SITES)
def test_ready_by_the_response_each_has_its_place(site: Site, kind: str) -> None:
    request = site.visit(f"/{kind}/in_line")
    results = request.results
    assert [result["name"] for result in results] == ["1", "2", "3", "4", "5", "6"]
    assert [*sorted(results, key=lambda result: result["number"])] == results
    assert {*map(tuple, (result["rows"] for result in results))} == {("row",)}
    assert (results[-1]["status"], results[-1]["completion"]) == (200, "SENT")


@pytest.mark.parametrize("kind", KINDS)
@with_sites(*SITES)
def test_two_databases(site: Site, kind: str) -> None:
    request = site.visit(f"/{kind}/in_other")
    assert request.response == {"error": None}
    found = succeeded(site, request.ended)
    assert [ended.state for ended in request.ended] == [
        *("SUCCEEDED", "SUCCEEDED"),  # no transaction of "default", and one of "other"
        *("SKIPPED", "SKIPPED"),  # both rolled back
        "SUCCEEDED",  # only "default" rolled back
    ]
    assert [(result["name"], result["rows"]) for result in found] == [
        ("default", []),
        ("other", ["other"]),
        ("other", ["other"]),
    ]


@with_sites(*ATOMIC)
def test_atomic_requests(site: Site) -> None:
    """The view returns; what it rolled back by itself is skipped all the same."""
    request = site.visit("/commits/sync/committed")
    assert [result["rows"] for result in request.results] == [["row"], ["row"]]
    request = site.visit("/commits/sync/savepoint_rolled_back")
    assert [ended.state for ended in request.ended] == ["SUCCEEDED", "SKIPPED", "SUCCEEDED"]
    request = site.visit("/commits/sync/marked_for_rollback")
    assert [ended.state for ended in request.ended] == ["SKIPPED", "SKIPPED"]
    request = site.visit("/commits/sync/in_line")
    assert [result["name"] for result in request.results] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("name", ["committed", "savepoint_rolled_back", "marked_for_rollback"])
@with_sites(*ATOMIC)
def test_atomic_requests_of_a_view_that_raises(site: Site, name: str) -> None:
    request = site.visit(f"/commits/raising/{name}", status=500)
    assert {ended.state for ended in request.ended} == {"SKIPPED"}


@pytest.mark.parametrize("kind", KINDS)
@with_sites(*ON_POSTGRESQL)
def test_a_session_that_the_server_kills(site: Site, kind: str) -> None:
    request = site.visit(f"/{kind}/killed")
    assert request.response == {"error": None}
    assert [ended.state for ended in request.ended] == ["SKIPPED"]
    # And nothing is left of it for the next one.
    assert site.visit(f"/{kind}/committed").results[0]["rows"] == ["row"]


@pytest.mark.parametrize("kind", KINDS)
@with_sites(*SITES)
def test_behind_a_hook_that_raises(site: Site, kind: str) -> None:
    """Django runs no hook behind one that is not robust: neither ours. It is not forgotten."""
    request = site.visit(f"/{kind}/behind_a_bad_hook")
    assert "RollBackError: a hook of the user's" in request.response["error"]
    # The collector finds it, if nothing else.
    assert request.states[0] in ("SUCCEEDED", "RUNNING", "PENDING")
    assert [ended.state for ended in request.ended] == ["SUCCEEDED", "SKIPPED"]


@pytest.mark.parametrize("kind", KINDS)
@with_sites(*SITES)
def test_a_transaction_of_a_callback(site: Site, kind: str) -> None:
    """What it commits joins the line behind it."""
    request = site.visit(f"/{kind}/in_callback")
    found = succeeded(site, request.ended)
    assert [result["name"] for result in sorted(found, key=lambda result: result["number"])] == [
        *("sync", "async"),
        *("sync committed", "async committed"),
    ]
    assert [ended.state for ended in request.ended].count("SKIPPED") == 2
    assert found[-1]["rows"] == ["async", "sync"]


@pytest.mark.parametrize("kind", KINDS)
@with_sites(
    *(replace(site, number=1, max_threads=1) for site in (SQLITE, POSTGRESQL, WSGI, INLINE))
)
def test_a_transaction_that_a_callback_leaves_open(site: Site, kind: str) -> None:
    """Its connection is closed behind it, as ever, and its hooks are dropped."""
    request = site.visit(f"/{kind}/left_open_in_callback")
    succeeded(site, request.ended)
    states = ["SUCCEEDED", "SUCCEEDED", "SKIPPED", "SKIPPED"]
    assert [ended.state for ended in request.ended] == states
    # The next one in that thread notices nothing (the server has 8 of them).
    for _ in range(1 if site.config.server == "uvicorn" else 16):
        after = site.visit(f"/{kind}/committed")
        assert after.response == {"error": None}
        assert [result["rows"] for result in after.results] == [["row"], ["row"]]


@with_sites(*(site for site in SITES if site.vendor == "postgresql" or site.is_wrapped))
def test_many_at_once(site: Site) -> None:
    """Each is accounted for, whoever else commits and rolls back meanwhile."""
    before = site.state()["statistics"]
    names = [*OUTCOMES] * 6

    def visit(number: int) -> int:
        name = names[number]
        request = site.visit(f"/{KINDS[number // 2 % 2]}/{name}")
        states, rows = OUTCOMES[name]
        assert [ended.state for ended in request.ended] == [*states.values()], name
        assert all(result["rows"] == rows for result in succeeded(site, request.ended)), name
        return len(states)

    with ThreadPoolExecutor(6) as clients:
        registered = sum(clients.map(visit, range(len(names))))
    after = site.state()["statistics"]
    assert after["registered"] - before["registered"] == registered
    assert [after[name] for name in ("pending", "running", "waiting", "open_exchanges")] == [0] * 4
    assert [after[name] for name in ("dropped", "failed", "timed_out")] == [0] * 3


# What is refused.


@pytest.mark.parametrize("kind", KINDS)
@with_sites(*SITES)
def test_manual_transactions_are_refused(site: Site, kind: str) -> None:
    request = site.visit(f"/{kind}/by_hand")
    error = request.response["error"]
    assert error.startswith("TransactionManagementError: using(on_commit=...)(")
    assert "see): database 'default' has autocommit turned off" in error
    assert "Use atomic()" in error
    assert request.ended == []


@pytest.mark.parametrize("kind", KINDS)
@with_sites(SITES[0])
def test_an_unknown_database_is_refused(site: Site, kind: str) -> None:
    request = site.visit(f"/{kind}/of_nowhere")
    assert request.response["error"].startswith("ConnectionDoesNotExist: ")
    assert "nowhere" in request.response["error"]
    assert request.ended == []


@with_sites(SITES[0], SITES[1], WSGI)
def test_a_plain_registration_in_a_coroutine_is_refused(site: Site) -> None:
    request = site.visit("/commits/async/aplain")
    error = request.response["error"]
    assert error.startswith("RuntimeError: after_response.using(on_commit=...)(")
    assert "await aafter_response.using(on_commit=...)" in error
    assert request.ended == []
