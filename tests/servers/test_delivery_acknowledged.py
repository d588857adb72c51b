"""Callbacks that wait until the response is acknowledged, and what waiting may not do."""

import time

import pytest

from .client import DEADLINE
from .delivery.peer import Peer
from .harness import Server
from .http2 import Http2Client
from .launch import Config

ASGI = "tests.servers.delivery.asgi:application"
WSGI = "tests.servers.delivery.wsgi:application"

SERVERS = pytest.mark.parametrize(
    "config",
    [
        Config(ASGI, http="httptools", loop="uvloop"),
        Config(ASGI, http="h11", loop="asyncio"),
        Config(WSGI, server="gunicorn-gthread"),
    ],
    ids=str,
)
SIZE = 300_000
"""Of a body that the kernel takes at once, and a small receive buffer does not."""


@SERVERS
def test_runs_when_acknowledged_and_not_before(server: Server) -> None:
    ident = server.new_ident()
    with Peer(server.port, 4096) as peer:
        peer.ask(f"/{ident}?sizes={SIZE}&timeout={DEADLINE}")
        (sealed,) = server.wait(ident, "sealed")
        assert (sealed["completion"], sealed["delivery"]) == ("SENT", "FLUSHED")
        assert not server.events(ident, "acknowledged")
        before = time.monotonic()
        total = peer.read_response()
        (told,) = server.wait(ident, "acknowledged")
        assert told["at"] > before
        assert (told["completion"], told["delivery"]) == ("SENT", "ACKNOWLEDGED")
        assert peer.received() >= total
        (settled,) = server.wait(ident, "settled")
        assert settled["state"] == "SUCCEEDED"


@SERVERS
def test_a_stalled_reader(server: Server) -> None:
    """The callback is skipped, and its patience is its own: the response was sent."""
    ident, before = server.new_ident(), time.monotonic()
    with Peer(server.port, 4096) as peer:
        peer.ask(f"/{ident}?sizes={SIZE}&timeout=0.2")
        (settled,) = server.wait(ident, "settled")
        assert settled["state"] == "SKIPPED"
        (sealed,) = server.events(ident, "sealed")
        assert (sealed["completion"], sealed["delivery"]) == ("SENT", "FLUSHED")
        assert settled["at"] - before >= 0.2
        assert not server.events(ident, "acknowledged")
        assert peer.received() < SIZE
        peer.read_response()


@SERVERS
def test_the_fin_is_not_held_back(server: Server) -> None:
    """The client has it as soon as the server has closed the connection, whoever waits."""
    ident, seconds = server.new_ident(), 60
    with Peer(server.port, 4096) as peer:
        target = f"/{ident}?sizes={SIZE}&wait={seconds}&timeout={seconds}"
        peer.ask(target, "Connection: close")
        server.wait(ident, "sealed")
        peer.until_eof()
        assert peer.total > SIZE
        # And the waiting ends with the connection.
        server.wait(ident, "waited")
        server.wait(ident, "settled")


@pytest.mark.parametrize(
    "config",
    [
        Config(ASGI, server="hypercorn"),
        Config(
            ASGI,
            server="gunicorn-asgi",
            args=("--http-protocols", "h2,h1", "--http2-cleartext", "prior-knowledge"),
        ),
    ],
    ids=str,
)
def test_http_2_shares_the_connection(server: Server) -> None:
    ident = server.new_ident()
    with Http2Client(server.port, server.report) as client:
        stream = client.send(f"/{ident}?sizes=1000&wait={DEADLINE}")
        assert client.response(stream)[0] == 200
        for event in ("sealed", "waited"):
            (told,) = server.wait(ident, event)
            assert told["delivery"] == "HANDED"
