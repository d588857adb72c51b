"""``on_commit`` under real servers: transactions that outlive view, response or process."""

import re
import signal
import socket
import struct
import time
from dataclasses import replace
from typing import Any

import pytest

from .dbserver import DEADLINE, POSTGRESQL, SQLITE, Request, Site, wait_until, with_sites

WSGI = replace(POSTGRESQL, server="waitress")
INLINE = replace(WSGI, wsgi_lane="inline")
SITES = [
    SQLITE,
    SQLITE.alone(),
    replace(SQLITE, server="waitress"),
    POSTGRESQL,
    POSTGRESQL.alone(),
    WSGI,
    WSGI.alone(),
    INLINE,
]
ASGI = [site for site in SITES if site.server == "uvicorn"]
# A thread that knows its request only, and one with the context of a task. (Under
# WSGI the loop of a coroutine ends with the view.)
LATE = ["commits/sync/in_thread", "commits/async/in_thread"]


def outlived(site: Site, path: str) -> Request:
    """The response is there, and the transaction still open: only ``other`` has run."""
    request = site.visit(f"/{path}")
    assert request.response == {"error": None}
    wait_until(
        lambda: request.states == ["PENDING", "PENDING", "SUCCEEDED"],
        lambda: f"{request.states}\n{site.report()}",
    )
    return request


def names_in_order(results: list[Any]) -> list[str]:
    return [result["name"] for result in sorted(results, key=lambda result: result["number"])]


@pytest.mark.parametrize("path", LATE)
@with_sites(*SITES)
def test_a_commit_after_the_response(site: Site, path: str) -> None:
    request = outlived(site, path)
    request.let("commit")
    results = request.results
    assert names_in_order(results) == ["other", "held", "held too"]
    assert [result["rows"] for result in results[:2]] == [["row"], ["row"]]
    if site.config.vendor == "postgresql":
        # Of no transaction: from connections of their own.
        assert {r["session"] for r in results}.isdisjoint({r["session_of_view"] for r in results})


@pytest.mark.parametrize("path", LATE)
@pytest.mark.parametrize("how", ["rollback", "close"])
@with_sites(*SITES)
def test_a_rollback_after_the_response(site: Site, how: str, path: str) -> None:
    request = outlived(site, path)
    request.let(how)
    assert [ended.state for ended in request.ended] == ["SKIPPED", "SKIPPED", "SUCCEEDED"]


@pytest.mark.parametrize(
    ("how", "states"),
    [("commit", ["SUCCEEDED", "SUCCEEDED"]), ("rollback", ["SKIPPED", "SKIPPED"])],
)
# Such a task leaves its connection in the thread that asgiref gives it.
@with_sites(*(replace(site, number=2) for site in ASGI))
def test_a_task_that_outlives_the_request(site: Site, how: str, states: list[str]) -> None:
    request = outlived(site, "commits/async/in_task")
    request.let(how)
    assert [ended.state for ended in request.ended] == [*states, "SUCCEEDED"]


# Streaming responses.


@pytest.mark.parametrize("kind", ["stream", "astream"])
@with_sites(*SITES)
def test_a_body_that_holds_the_transaction(site: Site, kind: str) -> None:
    request = site.visit(f"/commits/{kind}/commit")
    assert request.response == {"text": ""}
    [result] = request.results
    assert (result["rows"], result["completion"]) == (["row"], "SENT")


@pytest.mark.parametrize("kind", ["stream", "astream"])
@with_sites(*SITES)
def test_a_body_that_raises(site: Site, kind: str) -> None:
    request = site.future(f"/commits/{kind}/raise")
    with opened(site, request) as client:
        while client.recv(65536):
            pass
    assert [ended.state for ended in ended_of(request)] == ["SKIPPED"]


@with_sites(*(site for site in SITES if site.server == "waitress"))
def test_a_client_that_leaves_in_the_middle_of_a_body(site: Site) -> None:
    """The server closes the generator, which leaves its block."""
    left_by_its_client(site, "stream")


@with_sites(*ASGI)
def test_a_client_that_leaves_in_the_middle_of_an_async_body(site: Site) -> None:
    left_by_its_client(site, "astream")


def left_by_its_client(site: Site, kind: str) -> None:
    request = site.future(f"/commits/{kind}/endless")
    with opened(site, request) as client:
        assert client.recv(1000)
        wait_until(lambda: request.states == ["PENDING"], site.report)
        # Reset, at once.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert [ended.state for ended in ended_of(request)] == ["SKIPPED"]


def opened(site: Site, request: Request) -> socket.socket:
    """A connection on which the request has been sent."""
    client = socket.create_connection(site.address, timeout=DEADLINE)
    client.sendall(f"GET {request.target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return client


def ended_of(request: Request) -> list[Any]:
    """Its response was not read: it may not have registered anything yet."""
    wait_until(lambda: request.states, lambda: "nothing was registered")
    return [*request.ended]


# Transactions that nobody ends.


@with_sites(*(replace(site, number=1) for site in ASGI))
def test_a_transaction_that_is_left_open(site: Site) -> None:
    """Django leaves such a connection alone; it is collected after the request's thread."""
    request = site.visit("/commits/sync/left_open")
    assert request.response == {"error": None}
    wait_until(lambda: request.states == ["SKIPPED"], lambda: f"{request.states}")
    site.wait_for_sessions(lambda sessions: not sessions)


ENDING = [
    *(replace(site, number=signal.SIGTERM) for site in (SQLITE, POSTGRESQL)),
    # Without the wrapper nobody is told of the shutdown; but of the interpreter's exit,
    # which SIGTERM leaves out: uvicorn lets that kill the process in the end.
    *(replace(site, number=signal.SIGINT) for site in (POSTGRESQL, POSTGRESQL.alone())),
]


@with_sites(*ENDING)
def test_a_transaction_that_is_open_at_shutdown(site: Site) -> None:
    request = outlived(site, "commits/sync/in_thread")
    began = time.monotonic()
    site.terminate(signal.Signals(site.config.number))
    site.wait()
    # Nobody waits for it: far less than wait_timeout.
    assert time.monotonic() - began < 10
    lines = [line for line in site.report().splitlines() if " was dropped: " in line]
    assert len(lines) == 2, site.report()
    ident = request.target.rpartition("/")[2]
    for name, line in zip(["see", "asee"], sorted(lines, key=len), strict=True):
        assert re.match(rf"callback [\w.]*\.{name} of GET /commits/sync/in_thread/{ident} ", line)
        assert "its transaction was still open" in line
    assert "2 callback(s) were lost" in site.report()
