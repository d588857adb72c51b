"""A bare ASGI app under uvicorn: what Django does not let happen."""

import pytest

from .bare import BODY
from .harness import Server, finish
from .launch import BARE, SPEAKING, Config, pair
from .test_uvicorn import KINDS

BOTH_WAYS = pytest.mark.parametrize(
    "config", [*pair(BARE, lifespan="auto"), *pair(BARE, lifespan="off")], ids=str
)


@BOTH_WAYS
@KINDS
@pytest.mark.parametrize(
    ("page", "body"), [("length", BODY), ("chunked", BODY * 2), ("listens", BODY)]
)
def test_complete(server: Server, page: str, body: bytes, kind: str) -> None:
    ident, second = server.new_ident(), server.new_ident()
    with server.connect() as client:
        assert client.get(f"/{page}/{ident}?n=2&gated&kind={kind}").body == body
        assert client.get(f"/{page}/{second}").body == body
    finish(server, ident, 2)
    for expected in (server.outcome(ident), *server.wait(second, "every")):
        assert (
            expected.items()
            >= {
                "completion": "SENT",
                "status": 200,
                "body_bytes": len(body),
                "is_success": True,
            }.items()
        )


@BOTH_WAYS
@KINDS
def test_raises_before_the_response(server: Server, kind: str) -> None:
    """uvicorn's own 500 does not wait, and the outcome knows of no status."""
    ident = server.new_ident()
    with server.connect() as client:
        assert client.get(f"/raises/{ident}?n=2&gated&kind={kind}").status == 500
        client.expect_eof()
    finish(server, ident, 2)
    for outcome in (server.outcome(ident), *server.wait(ident, "every")):
        assert (
            outcome.items()
            >= {
                "completion": "FAILED",
                "status": None,
                "error": "RuntimeError",
            }.items()
        )
    assert "this app always raises" in server.stderr()


@BOTH_WAYS
def test_raises_half_way(server: Server) -> None:
    ident = server.new_ident()
    with server.connect() as client:
        client.send(f"/raises-late/{ident}?n=1&gated")
        assert client.head()[0] == 200
        assert client.chunk() == BODY
        client.expect_eof()
    finish(server, ident)
    assert (
        server.outcome(ident).items()
        >= {
            "completion": "FAILED",
            "status": 200,
            "body_bytes": len(BODY),
            "error": "RuntimeError",
        }.items()
    )


@BOTH_WAYS
def test_raises_after_the_response(server: Server) -> None:
    """It was sent all the same, but is no success."""
    ident = server.new_ident()
    with server.connect() as client:
        assert client.get(f"/raises-last/{ident}?n=1&gated").body == BODY
    finish(server, ident)
    assert (
        server.outcome(ident).items()
        >= {
            "completion": "SENT",
            "status": 200,
            "error": "RuntimeError",
            "is_success": False,
        }.items()
    )


@BOTH_WAYS
def test_returns_without_a_response(server: Server) -> None:
    ident = server.new_ident()
    with server.connect() as client:
        assert client.get(f"/returns/{ident}?n=1&gated").status == 500
    finish(server, ident)
    assert server.outcome(ident).items() >= {"completion": "FAILED", "error": None}.items()


@BOTH_WAYS
def test_content_length_reached_without_a_last_message(server: Server) -> None:
    ident = server.new_ident()
    with server.connect() as client:
        assert client.get(f"/unfinished/{ident}?n=1&gated").body == BODY
    finish(server, ident)
    assert (
        server.outcome(ident).items()
        >= {
            "completion": "SENT",
            "body_bytes": len(BODY),
            "is_success": True,
        }.items()
    )


@BOTH_WAYS
@pytest.mark.parametrize("end", ["FIN", "RST"])
def test_the_client_closes_mid_stream(server: Server, end: str) -> None:
    ident = server.new_ident()
    client = server.connect()
    client.send(f"/endless/{ident}?n=1&gated")
    client.head()
    assert client.chunk() == BODY
    client.reset() if end == "RST" else client.close()
    finish(server, ident)
    assert (
        server.outcome(ident).items()
        >= {
            "completion": "DISCONNECTED",
            "status": 200,
            "body_bytes": len(BODY),
        }.items()
    )


@BOTH_WAYS
def test_callbacks_of_the_wrapper_run_where_nothing_is_registered(server: Server) -> None:
    ident = server.new_ident()
    server.get(f"/length/{ident}")
    (outcome,) = server.wait(ident, "every")
    assert outcome["completion"] == "SENT"
    assert not server.events(ident, "start")


@pytest.mark.parametrize("config", pair(SPEAKING, lifespan="on"), ids=str)
def test_an_app_that_speaks_lifespan(server: Server) -> None:
    assert len(server.events("lifespan", "startup")) == 1
    ident = server.new_ident()
    server.get(f"/length/{ident}?n=1&gated")
    server.wait(ident, "returned")
    finish(server, ident)


@pytest.mark.parametrize("config", [Config(BARE, lifespan="on")], ids=str)
def test_lifespan_is_answered_for_an_app_that_does_not_speak_it(server: Server) -> None:
    """uvicorn refuses to start with ``--lifespan on`` where nobody answers."""
    assert "Application startup complete." in server.stderr()
    ident = server.new_ident()
    server.get(f"/length/{ident}?n=1&gated")
    server.wait(ident, "returned")
    finish(server, ident)
