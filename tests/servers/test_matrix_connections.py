"""The server matrix: several requests on one connection, while callbacks run."""

from itertools import pairwise

import pytest

from .harness import Server, finish
from .http2 import Http2Client
from .launch import Config
from .matrix import EVERY_ROW, Row, rows_with
from .site.views import BODY

KINDS = pytest.mark.parametrize("kind", ["async", "sync"])


@pytest.mark.matrix("20")
@EVERY_ROW
@KINDS
def test_20_requests(server: Server, row: Row, kind: str) -> None:
    idents = [server.new_ident() for _ in range(20)]
    answered = 20 if row.can("20") else 16
    with server.connect() as client:
        for ident in idents[:answered]:
            assert client.get(f"/async/{ident}?gated&kind={kind}").body == BODY
            server.wait(ident, "sent")
        for ident in idents[answered:]:
            client.send(f"/async/{ident}?gated&kind={kind}")
        server.wait(idents[0], "start")
        for ident in idents:
            assert not server.events(ident, "end")
        server.note("released", idents[-1])
        for ident in idents:
            server.release(ident)
        for _ in idents[answered:]:
            assert client.response().body == BODY
        for ident in idents:
            server.wait(ident, "end")
            assert server.outcome(ident)["completion"] == "SENT"
    order = server.order(idents[-1])
    assert (order.index("sent") < order.index("released")) is row.can("20")


@pytest.mark.matrix("pipeline")
@EVERY_ROW
def test_pipelining(server: Server, row: Row) -> None:
    idents = [server.new_ident() for _ in range(5)]
    left = [*idents]
    with server.connect() as client:
        client.send_all(*(f"/async/{ident}?n=2&kind=both&gated" for ident in idents))
        for ident in idents:
            assert client.response().body == BODY
            server.wait(ident, "start")
            if not row.can("pipeline"):
                finish(server, left.pop(0), 2)
        for ident in left:
            finish(server, ident, 2)
    events = [(event["id"], event["event"]) for event in server.events()]
    for first, second in pairwise(idents):
        is_late = events.index((first, "released")) < events.index((second, "sent"))
        assert is_late is not row.can("pipeline")


@pytest.mark.parametrize("config", [Config(server="daphne")], ids=str)
def test_a_pipelined_request_is_held_at_shutdown(own_server: Server) -> None:
    """daphne too starts it in the context of the one before it."""
    server = own_server
    first, second = server.new_ident(), server.new_ident()
    with server.connect() as client:
        client.send_all(f"/async/{first}", f"/async/{second}?gated")
        for _ in range(2):
            assert client.response().body == BODY
        server.wait(first, "returned")
        server.wait(second, "start")
        server.terminate()
        server.wait(second, "cancelled")
        server.release(second)
        server.wait_for_exit()
    assert server.order(second)[-2:] == ["end", "raised"]


@pytest.mark.matrix("raises")
@EVERY_ROW
def test_a_callback_that_raises(server: Server) -> None:
    first, second = server.new_ident(), server.new_ident()
    with server.connect() as client:
        assert client.get(f"/callback-fails/{first}").body == BODY
        server.wait(first, "end")
        assert client.get(f"/async/{second}?framing=stream").body == BODY
    assert f"GET /callback-fails/{first} (200)" in server.stderr()
    assert "this callback always fails" in server.stderr()


HTTP_2 = rows_with(
    {
        "hypercorn": (),
        "granian": (),
        "gunicorn-asgi": ("--http-protocols", "h2,h1", "--http2-cleartext", "prior-knowledge"),
    }
)


@pytest.mark.matrix("h2")
@HTTP_2
@KINDS
def test_two_http2_streams(server: Server, row: Row, kind: str) -> None:
    first, second = server.new_ident(), server.new_ident()
    with Http2Client(server.port, server.report) as client:
        streams = [
            client.send(f"/async/{first}?gated&kind={kind}"),
            client.send(f"/sync/{second}?gated&kind={kind}&framing=stream"),
        ]
        for stream in streams:
            assert client.response(stream) == (200, BODY)
        for ident in (second, first):
            order = finish(server, ident)
            assert order.index("sent") < order.index("start")
            assert server.outcome(ident)["completion"] == "SENT"


@pytest.mark.matrix("h2")
@HTTP_2
def test_a_reset_http2_stream(server: Server, row: Row) -> None:
    """The other stream of the connection lives on."""
    first, second = server.new_ident(), server.new_ident()
    with Http2Client(server.port, server.report) as client:
        stream = client.send(f"/endless/{first}?n=2&kind=both&gated")
        assert client.some_of(stream) == BODY
        client.reset(stream)
        server.wait(first, "start")
        assert client.response(client.send(f"/async/{second}"))[1] == BODY
        finish(server, first, 2)
    assert server.outcome(first)["completion"] == "DISCONNECTED"


@pytest.mark.matrix("h2")
@HTTP_2
def test_an_http2_connection_ends(server: Server, row: Row) -> None:
    """One stream is complete and one is not."""
    first, second = server.new_ident(), server.new_ident()
    with Http2Client(server.port, server.report) as client:
        streams = [client.send(f"/async/{first}?gated"), client.send(f"/endless/{second}?gated")]
        assert client.response(streams[0])[1] == client.some_of(streams[1]) == BODY
        # gunicorn's own worker may still be in send(), which then raises OSError.
        server.wait(first, "sent")
    finish(server, first)
    finish(server, second)
    completions = [server.outcome(ident)["completion"] for ident in (first, second)]
    assert completions == ["SENT", "DISCONNECTED"]


LIMITED = {"uvicorn": ("--limit-concurrency", "4"), "granian": ("--backpressure", "4")}


@pytest.mark.matrix("limit")
@rows_with(LIMITED)
def test_limit_of_concurrent_requests(server: Server, row: Row) -> None:
    """On one connection: they may be counted too."""
    idents = [server.new_ident() for _ in range(5)]
    with server.connect() as client:
        statuses = [client.get(f"/async/{ident}?gated").status for ident in idents]
    assert statuses == [200, 200, 200, 200, 200 if row.can("limit") else 503]
    for ident, status in zip(idents, statuses, strict=True):
        if status == 200:
            finish(server, ident)
