"""The WSGI server matrix: clients that leave, callbacks that fail, and files."""

import re
from pathlib import Path

import pytest

from ..servers.harness import finish, wait_until
from .harness import Server
from .matrix import EVERY_MODE, EVERY_ROW, Row, rows
from .site.content import BODY, FILE_SIZE, PART, file_path
from .strace import traced

PARTS = 3000
"""Of 64 KB: much more than all buffers between a server and a client hold."""
ALL_PARTS = 300
"""Of a server that takes them all."""


@EVERY_ROW
@pytest.mark.matrix("disconnect")
def test_a_client_that_leaves_in_mid_stream(row: Row, server: Server) -> None:
    ident = server.new_ident()
    parts = PARTS if row.can("disconnect") else ALL_PARTS
    client = server.connect()
    client.send(f"/big/{ident}?parts={parts}")
    client.head()
    client.some()
    client.reset()
    outcome = server.outcome(ident)
    server.wait(ident, "end")
    if row.can("disconnect"):
        assert outcome["completion"] == "DISCONNECTED", server.report()
        assert outcome["body_bytes"] < parts * len(PART)
    else:
        assert outcome["completion"] == "SENT", server.report()
        assert outcome["body_bytes"] == parts * len(PART)


@pytest.mark.promise("never_cancelled_by_the_client")
@pytest.mark.first_hour(row=EVERY_MODE)
@EVERY_ROW
@pytest.mark.matrix("RST")
def test_a_client_that_leaves_after_the_response(row: Row, server: Server) -> None:
    ident = server.new_ident()
    client = server.connect()
    assert client.get(f"/view/{ident}?gated").body == BODY
    client.reset()
    finish(server, ident)
    assert server.outcome(ident)["completion"] == "SENT"


@EVERY_ROW
@pytest.mark.matrix("isolated")
def test_a_callback_that_raises(row: Row, server: Server) -> None:
    first, second = server.new_ident(), server.new_ident()
    assert server.get(f"/fails/{first}").body == BODY
    server.wait(first, "end")
    _expect_named(server, f"fail of GET /fails/{first}", "RuntimeError: this callback always")
    assert server.get(f"/view/{second}").body == BODY
    server.wait(second, "end")
    assert _pids(server, first) == _pids(server, second)


@EVERY_ROW
@pytest.mark.matrix("SystemExit")
def test_a_callback_that_raises_system_exit(row: Row, server: Server) -> None:
    first, second = server.new_ident(), server.new_ident()
    assert server.get(f"/exits/{first}").body == BODY
    server.wait(first, "end")
    _expect_named(server, f"exit_process of GET /exits/{first}", "SystemExit: this callback wants")
    assert server.get(f"/view/{second}").body == BODY
    server.wait(second, "end")
    is_same_worker = _pids(server, first) == _pids(server, second)
    assert is_same_worker == row.can("SystemExit")


@rows(lambda row: not row.is_inline)
@pytest.mark.matrix("request")
def test_a_callback_keeps_its_request(row: Row, server: Server) -> None:
    """uWSGI has one environ for all requests of a thread, one after the other."""
    idents = [server.new_ident() for _ in range(6)]
    for ident in idents:
        with server.connect() as client:
            client.send(f"/keeps/{ident}", headers=(f"Cookie: who={ident}", "Connection: close"))
            assert client.head()[0] == 200
        server.wait(ident, "start")
    for ident in idents:
        server.release(ident)
    for ident in idents:
        (event,) = server.wait(ident, "request")
        assert (event["path"], event["cookies"]) == (f"/keeps/{ident}", {"who": ident})
        server.wait(ident, "registered by request")
        server.wait(ident, "end")


@EVERY_ROW
@pytest.mark.matrix("async ORM")
def test_the_async_orm_in_a_callback(row: Row, server: Server) -> None:
    ident = server.new_ident()
    assert server.get(f"/async-orm/{ident}").body == BODY
    server.wait(ident, "end")
    if row.can("async ORM"):
        (event,) = server.wait(ident, "queried")
        assert event["number"] == 42
    else:
        assert not server.events(ident, "queried")
        _expect_named(server, f"query of GET /async-orm/{ident}", "RuntimeError: under gevent")


def _expect_named(server: Server, name: str, error: str) -> None:
    wait_until(
        lambda: re.search(re.escape(name) + r"\b", server.stderr()) and error in server.stderr(),
        lambda: f"{name}: {error} is not in the log\n{server.report()}",
    )


def _pids(server: Server, ident: str) -> set[int]:
    return {event["pid"] for event in server.events(ident)}


@EVERY_ROW
@pytest.mark.matrix("file")
def test_file(row: Row, server: Server) -> None:
    ident = server.new_ident()
    before = sum(event["size"] for event in server.events("process", "sendfile"))
    with server.connect() as client:
        response = client.get(f"/file/{ident}?gated")
        finish(server, ident)
    assert response.headers["content-length"] == str(FILE_SIZE)
    assert response.body == file_path(server.events_path).read_bytes()
    outcome = server.outcome(ident)
    assert outcome["completion"] == "SENT"
    (returned,) = server.events(ident, "returned")
    if row.can("file"):
        assert returned["kept"]
        assert outcome["body_bytes"] is None
    else:
        assert not returned["kept"]
        assert outcome["body_bytes"] == FILE_SIZE
    by_sendfile = sum(event["size"] for event in server.events("process", "sendfile")) - before
    uses_sendfile = row.server in ("gunicorn sync", "gunicorn gthread")
    assert by_sendfile == (FILE_SIZE if uses_sendfile else 0)


_SENT = re.compile(r"sendfile\(\d+, \d+, .*= (\d+)")


@rows(lambda row: row.server in ("gunicorn sync", "gunicorn gthread"))
def test_gunicorn_sends_a_file_by_sendfile(row: Row, server: Server, tmp_path: Path) -> None:
    """The kernel's word for what ``test_file`` sees in the process."""
    first, ident = server.new_ident(), server.new_ident()
    server.get(f"/view/{first}")
    (end,) = server.wait(first, "end")
    with traced(end["pid"], tmp_path / "strace") as calls, server.connect() as client:
        response = client.get(f"/file/{ident}?gated")
        assert response.body == file_path(server.events_path).read_bytes()
        finish(server, ident)
    outcome = server.outcome(ident)
    assert (outcome["completion"], outcome["body_bytes"]) == ("SENT", None)
    sent = [int(size) for size in _SENT.findall(calls.read_text())]
    assert sum(sent) == FILE_SIZE
