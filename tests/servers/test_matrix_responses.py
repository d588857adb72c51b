"""The server matrix: how a response ends, and what comes after it."""

import pytest

from .harness import Server, finish
from .matrix import EVERY_MODE, EVERY_ROW, EVERY_SERVER, Row
from .site.views import BODY, PART

VIEWS = pytest.mark.parametrize("view", ["async", "sync"])


@pytest.mark.promise("never_before")
@pytest.mark.first_hour(view="async", framing="stream", row=(*EVERY_SERVER, *EVERY_MODE))
@pytest.mark.matrix("order")
@EVERY_ROW
@VIEWS
@pytest.mark.parametrize("framing", ["length", "chunked", "stream"])
def test_order(server: Server, view: str, framing: str) -> None:
    ident = server.new_ident()
    with server.connect() as client:
        target = f"/{view}/{ident}?n=2&kind=both&gated&framing={framing}"
        response = client.get(target)
        assert response.body == BODY
        if framing != "chunked":  # granian counts a single message itself
            assert ("content-length" in response.headers) is (framing == "length")
        order = finish(server, ident, 2)
    assert order.index("sent") < order.index("outcome") < order.index("start")
    assert (
        server.outcome(ident).items()
        >= {
            "completion": "SENT",
            "status": 200,
            "body_bytes": len(BODY),
            "error": None,
        }.items()
    )


@pytest.mark.matrix("empty")
@EVERY_ROW
def test_empty(server: Server) -> None:
    with server.connect() as client:
        for method, options, status in [
            ("HEAD", "", 200),
            ("GET", "&status=204", 204),
            ("GET", "&etag", 304),
        ]:
            ident = server.new_ident()
            target = f"/async/{ident}?gated{options}"
            headers = ('If-None-Match: "fixed"',) if status == 304 else ()
            assert client.get(target, method=method, headers=headers).status == status
            order = finish(server, ident)
            assert order.index("sent") < order.index("start")
            outcome = server.outcome(ident)
            assert (outcome["completion"], outcome["status"]) == ("SENT", status)


@pytest.mark.matrix("length")
@EVERY_ROW
@VIEWS
def test_a_stream_with_content_length(server: Server, view: str) -> None:
    ident = server.new_ident()
    with server.connect() as client:
        assert client.get(f"/{view}/{ident}?gated&framing=counted").body == BODY
        finish(server, ident)
    outcome = server.outcome(ident)
    assert (outcome["completion"], outcome["body_bytes"]) == ("SENT", len(BODY))


@pytest.mark.matrix("close")
@EVERY_ROW
@VIEWS
@pytest.mark.parametrize("framing", ["chunked", "stream"])
def test_connection_close(server: Server, row: Row, view: str, framing: str) -> None:
    ident = server.new_ident()
    with server.connect() as client:
        target = f"/{view}/{ident}?n=2&kind=both&gated&framing={framing}"
        assert client.get(target, headers=("Connection: close",)).body == BODY
        if row.can("close"):
            client.expect_eof()
        order = finish(server, ident, 2)
        if not row.can("close"):
            client.expect_eof()
    assert order.index("sent") < order.index("start")
    assert server.outcome(ident)["completion"] == "SENT"


@pytest.mark.matrix("slow")
@EVERY_ROW
def test_a_slow_reader(server: Server, row: Row) -> None:
    """The end of the response cannot be accepted before the client reads,
    unless the server takes whatever it gets."""
    ident, parts = server.new_ident(), 24
    with server.connect(receive_buffer=4096) as client:
        client.send(f"/big/{ident}?parts={parts}&gated")
        client.head()
        if not row.can("slow"):
            server.wait(ident, "sent")
        server.note("reads", ident)
        body = b"".join(iter(client.chunk, b""))
        assert body == PART * parts
        order = finish(server, ident)
    assert (order.index("reads") < order.index("sent")) is row.can("slow")
    assert order.index("sent") < order.index("start")
    outcome = server.outcome(ident)
    assert (outcome["completion"], outcome["body_bytes"]) == ("SENT", len(body))
