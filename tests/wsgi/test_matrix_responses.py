"""The WSGI server matrix: what the client has while callbacks run."""

import pytest

from ..servers.client import Response
from ..servers.harness import finish
from ..servers.launch import Config
from .client import Client
from .harness import Server
from .matrix import EVERY_MODE, EVERY_ROW, EVERY_SERVER, ROWS, THREADS, Row, parameter, rows
from .site.content import BODY


@pytest.mark.promise("never_before")
@pytest.mark.first_hour(row=(*EVERY_SERVER, *EVERY_MODE))
@EVERY_ROW
@pytest.mark.matrix("order")
def test_order(row: Row, server: Server) -> None:
    ident = server.new_ident()
    kind = "sync" if "gevent" in row.server else "both"
    response = server.get(f"/view/{ident}?n=4&kind={kind}&delay=0.01")
    assert (response.status, response.body) == (200, BODY)
    server.wait(ident, "end", 4)
    server.wait(ident, "closed")
    events = [e for e in server.events(ident) if e["event"] != "closed"]
    assert [e["event"] for e in events[:3]] == ["view", "returned", "closing"], server.report()
    assert events[3]["event"] == "outcome"
    assert [(e["event"], e["n"]) for e in events[4:]] == [
        (event, number) for number in range(4) for event in ("start", "end")
    ]
    outcome = server.outcome(ident)
    assert (outcome["completion"], outcome["body_bytes"]) == ("SENT", len(BODY))
    is_before = server.position(ident, "end") < server.position(ident, "closed")
    assert is_before or not row.is_inline


@EVERY_ROW
@pytest.mark.matrix("error")
def test_a_view_that_raises(row: Row, server: Server) -> None:
    ident = server.new_ident()
    assert server.get(f"/raises/{ident}").status == 500
    outcome = server.outcome(ident)
    assert (outcome["completion"], outcome["status"]) == ("SENT", 500)
    # What Django has caught only its own middleware sees.
    assert outcome["error"] == ("RuntimeError" if "alone" in row.mode else None)
    server.wait(ident, "end")


@EVERY_ROW
@pytest.mark.matrix("error")
def test_a_stream_that_breaks(row: Row, server: Server) -> None:
    ident = server.new_ident()
    with server.connect() as client:
        client.send(f"/breaks/{ident}")
        outcome = server.outcome(ident)
        server.wait(ident, "end")
    assert (outcome["completion"], outcome["error"]) == ("FAILED", "RuntimeError")


@rows(lambda row: "alone" not in row.mode)
@pytest.mark.matrix("error")
def test_an_app_that_raises(row: Row, server: Server) -> None:
    """Django lets nothing through; this one does."""
    ident = server.new_ident()
    with server.connect() as client:
        client.send(f"/app-raises/{ident}")
        outcome = server.outcome(ident)
        server.wait(ident, "end")
    assert (outcome["completion"], outcome["error"]) == ("FAILED", "RuntimeError")
    assert server.order(ident)[0] == "raised"


@EVERY_ROW
@pytest.mark.parametrize(
    ("framing", "method"),
    [
        pytest.param(framing, method, id=f"{framing}-{method}", marks=pytest.mark.matrix(column))
        for column, framing, method in (
            ("body", "length", "GET"),
            ("stream", "stream", "GET"),
            ("empty", "empty", "GET"),
            ("empty", "length", "HEAD"),
        )
    ],
)
def test_body(
    request: pytest.FixtureRequest, row: Row, server: Server, framing: str, method: str
) -> None:
    ident = server.new_ident()
    column = {"length": "body", "stream": "stream", "empty": "empty"}[framing]
    if method == "HEAD":
        column = "empty"
    with server.connect() as client:
        client.send(f"/view/{ident}?gated&framing={framing}", method=method)
        if row.can(column):
            response = client.response(method)
            finish(server, ident)
        else:
            response = _late(client, server, ident, method)
    assert response.status == (204 if framing == "empty" else 200)
    is_empty = method == "HEAD" or framing == "empty"
    assert response.body == (b"" if is_empty else BODY)
    assert server.outcome(ident)["completion"] == "SENT"


def _late(client: Client, server: Server, ident: str, method: str) -> Response:
    """The end of the response comes after the callbacks only."""
    server.wait(ident, "start")
    kept = client.keep()
    assert not kept.endswith(b"0\r\n\r\n")  # the last chunk
    finish(server, ident)
    return client.response(method)


def _with_keep_alive(row: Row) -> Config | None:
    if row.config.server == "uwsgi":
        return row.config.on(row.config.app, server="uwsgi-keep-alive")
    return None if row.config.server in ("gunicorn-sync", "uwsgi-threadless") else row.config


@pytest.mark.parametrize(
    ("row", "config"),
    [parameter(row, config) for row in ROWS if (config := _with_keep_alive(row)) is not None],
)
@pytest.mark.matrix("next")
def test_next_request(row: Row, server: Server) -> None:
    first, second = server.new_ident(), server.new_ident()
    with server.connect() as client:
        assert client.get(f"/view/{first}?gated").body == BODY
        client.send(f"/view/{second}")
        if row.can("next"):
            assert client.response().body == BODY
            finish(server, first)
        else:
            server.wait(first, "start")
            assert client.is_silent()
            finish(server, first)
            assert client.response().body == BODY
            assert server.position(first, "end") < server.position(second, "view")
        server.wait(second, "end")


@EVERY_ROW
@pytest.mark.matrix("EOF")
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_end_of_the_connection(row: Row, server: Server, version: str) -> None:
    ident = server.new_ident()
    framing = "stream" if version == "1.0" else "length"
    with server.connect() as client:
        client.send(
            f"/view/{ident}?gated&framing={framing}",
            headers=("Connection: close",),
            version=version,
        )
        if row.can("EOF"):
            assert client.response().body == BODY
            client.expect_eof()
            finish(server, ident)
        else:
            server.wait(ident, "start")
            client.keep()
            finish(server, ident)
            assert client.response().body == BODY
            client.expect_eof()


@EVERY_ROW
@pytest.mark.matrix("worker")
def test_other_clients(row: Row, server: Server) -> None:
    """More callbacks are held than the server has threads."""
    held = [server.new_ident() for _ in range(THREADS[row.server] if row.is_inline else 10)]
    other = server.new_ident()
    try:
        for ident in held:
            assert server.get(f"/view/{ident}?gated").body == BODY
        for ident in held:
            server.wait(ident, "start")
        if row.can("worker"):
            assert server.get(f"/view/{other}").body == BODY
            for ident in held:
                finish(server, ident)
        else:
            with server.connect() as client:
                client.send(f"/view/{other}")
                assert client.is_silent()
                for ident in held:
                    finish(server, ident)
                assert client.response().body == BODY
            first = min(server.position(ident, "end") for ident in held)
            assert first < server.position(other, "view")
        server.wait(other, "end")
    finally:
        for ident in held:
            server.release(ident)
