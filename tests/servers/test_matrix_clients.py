"""The server matrix: clients that leave."""

import pytest

from .client import Client
from .harness import Server, finish
from .launch import BARE, Config
from .matrix import EVERY_MODE, EVERY_ROW, WRAPPED, Row, rows_with
from .site.views import BODY

VIEWS = pytest.mark.parametrize("view", ["async", "sync"])
ENDS = pytest.mark.parametrize("end", ["FIN", "RST"])


def leave(client: Client, end: str) -> None:
    client.reset() if end == "RST" else client.close()


@pytest.mark.promise("never_cancelled_by_the_client")
@pytest.mark.first_hour(view="async", end="RST", row=EVERY_MODE)
@EVERY_ROW
@VIEWS
@pytest.mark.parametrize(
    "end",
    [
        pytest.param("FIN", marks=pytest.mark.matrix("FIN")),
        pytest.param("RST", marks=pytest.mark.matrix("RST")),
    ],
)
def test_after_the_response(server: Server, view: str, end: str) -> None:
    ident = server.new_ident()
    client = server.connect()
    assert client.get(f"/{view}/{ident}?n=2&kind=both&gated").body == BODY
    leave(client, end)
    finish(server, ident, 2)
    assert server.outcome(ident)["completion"] == "SENT"


@pytest.mark.matrix("half")
@EVERY_ROW
@VIEWS
def test_half_close_after_the_response(server: Server, view: str) -> None:
    ident = server.new_ident()
    with server.connect() as client:
        assert client.get(f"/{view}/{ident}?n=2&kind=both&gated").body == BODY
        client.half_close()
        finish(server, ident, 2)
    assert server.outcome(ident)["completion"] == "SENT"


@pytest.mark.matrix("abort")
@EVERY_ROW
@ENDS
def test_mid_stream(server: Server, end: str) -> None:
    ident = server.new_ident()
    client = server.connect()
    client.send(f"/endless/{ident}?n=2&kind=both&gated")
    client.head()
    assert client.chunk() == BODY
    leave(client, end)
    finish(server, ident, 2)
    assert (
        server.outcome(ident).items()
        >= {
            "completion": "DISCONNECTED",
            "status": 200,
            "body_bytes": len(BODY),
            "is_success": False,
        }.items()
    )


@pytest.mark.matrix("abort")
@EVERY_ROW
@ENDS
def test_while_the_server_waits_for_the_reader(server: Server, end: str) -> None:
    """No server's ``send`` says that the client has gone: the disconnect does."""
    ident = server.new_ident()
    client = server.connect(receive_buffer=4096)
    client.send(f"/big/{ident}?parts=24&endless&n=2&kind=both&gated")
    client.head()
    leave(client, end)
    finish(server, ident, 2)
    assert server.outcome(ident)["completion"] == "DISCONNECTED"


@pytest.mark.matrix("view")
@EVERY_ROW
@pytest.mark.parametrize("end", ["FIN", "RST", "half-close"])
def test_during_an_async_view(server: Server, end: str) -> None:
    """Django cancels the view. What it had registered runs."""
    ident = server.new_ident()
    client = server.connect()
    client.send(f"/slow-async/{ident}?n=2&kind=both&gated")
    server.wait(ident, "in view")
    client.half_close() if end == "half-close" else leave(client, end)
    finish(server, ident, 2)
    outcome = server.outcome(ident)
    assert (outcome["completion"], outcome["status"]) == ("DISCONNECTED", None)
    client.close()


@pytest.mark.matrix("view")
@EVERY_ROW
def test_during_a_sync_view(server: Server) -> None:
    """Django waits for the thread of the view, which registers when the client
    has long gone."""
    ident = server.new_ident()
    client = server.connect()
    client.send(f"/slow-sync/{ident}?n=2&kind=both&gated")
    server.wait(ident, "in view")
    client.close()
    server.wait(ident, "gone")
    server.release(f"view-{ident}")
    finish(server, ident, 2)
    assert server.outcome(ident)["completion"] == "DISCONNECTED"


PATIENCE = {
    # By default 10 s after the response, and 3 s after the client has left.
    "daphne": ("--application-close-timeout", "1"),
    "gunicorn-asgi": ("--asgi-disconnect-grace-period", "1"),
}


@pytest.mark.matrix("long")
@rows_with(PATIENCE)
def test_longer_than_the_patience_of_the_server(server: Server, row: Row) -> None:
    """Where the app call goes on until the callbacks have ended, the server
    cancels it. Two of them: the last one that is held does not let go."""
    idents = [server.new_ident(), server.new_ident()]
    for ident in idents:
        server.get(f"/async/{ident}?n=2&kind=both&gated")
    for ident in idents:
        server.wait(ident, "returned" if row.mode == WRAPPED else "cancelled")
    for ident in idents:
        finish(server, ident, 2)
        assert server.outcome(ident)["completion"] == "SENT"


@pytest.mark.parametrize(
    "config",
    [
        Config(BARE, server="gunicorn-asgi", lifespan=mode, args=PATIENCE["gunicorn-asgi"])
        for mode in ("auto", "off")
    ],
    ids=str,
)
def test_an_app_that_does_not_listen_is_cancelled(server: Server) -> None:
    """Only gunicorn's own worker does that. What was registered runs."""
    ident = server.new_ident()
    with server.connect() as client:
        client.send(f"/deaf/{ident}?n=2&kind=both&gated")
        client.head()
        assert client.chunk() == BODY
    server.wait(ident, "cancelled")
    finish(server, ident, 2)
    outcome = server.outcome(ident)
    # Nobody has told the app, or the wrapper, why.
    assert (outcome["completion"], outcome["error"]) == ("FAILED", "CancelledError")
