"""What a client can do to a Django site under uvicorn, while callbacks run.

A gated callback runs until the test opens its gate. So what a client gets
while the gate is closed, it gets while the callback runs: no test compares times.
"""

from itertools import chain

import pytest

from .harness import Server, finish
from .launch import DJANGO, Config, pair, product
from .site.views import BODY

VIEWS = pytest.mark.parametrize("view", ["async", "sync"])
KINDS = pytest.mark.parametrize("kind", ["async", "sync"])
EVERYWHERE = pytest.mark.parametrize("config", product(), ids=str)
PAIR = pytest.mark.parametrize("config", pair(), ids=str)
PAIR_BOTH_WAYS = pytest.mark.parametrize(
    # Released by lifespan, and held without.
    "config",
    [*pair(), *pair(lifespan="off")],
    ids=str,
)


@pytest.mark.parametrize("config", list(chain(product(), product(lifespan="off"))), ids=str)
@VIEWS
@KINDS
def test_keep_alive(server: Server, view: str, kind: str) -> None:
    """The next request on the connection is answered while the callback of
    the first one runs."""
    first, second = server.new_ident(), server.new_ident()
    with server.connect() as client:
        assert client.get(f"/{view}/{first}?gated&kind={kind}").body == BODY
        server.wait(first, "start")
        assert client.get(f"/{view}/{second}?kind={kind}").body == BODY
        server.wait(second, "end")
        finish(server, first)
    assert (
        server.outcome(first).items()
        >= {
            "completion": "SENT",
            "status": 200,
            "body_bytes": len(BODY),
            "error": None,
            "is_success": True,
        }.items()
    )


@EVERYWHERE
@KINDS
def test_pipelining(server: Server, kind: str) -> None:
    idents = [server.new_ident() for _ in range(5)]
    with server.connect() as client:
        client.send_all(*(f"/async/{ident}?gated&kind={kind}" for ident in idents))
        for _ in idents:
            assert client.response().body == BODY
        for ident in idents:
            server.wait(ident, "start")
        for ident in idents:
            finish(server, ident)


@EVERYWHERE
@VIEWS
@KINDS
def test_connection_close(server: Server, view: str, kind: str) -> None:
    """EOF comes while the callback runs."""
    ident = server.new_ident()
    with server.connect() as client:
        response = client.get(f"/{view}/{ident}?gated&kind={kind}", headers=("Connection: close",))
        assert response.body == BODY
        client.expect_eof()
    finish(server, ident)
    assert server.outcome(ident)["completion"] == "SENT"


@PAIR_BOTH_WAYS
def test_the_app_closes_the_connection(server: Server) -> None:
    ident = server.new_ident()
    with server.connect() as client:
        assert client.get(f"/async/{ident}?gated&close").body == BODY
        client.expect_eof()
    finish(server, ident)


@PAIR_BOTH_WAYS
@VIEWS
@pytest.mark.parametrize("framing", ["length", "chunked", "stream"])
def test_framing(server: Server, view: str, framing: str) -> None:
    """The whole body, its terminating chunk included, comes before the callback ends."""
    ident = server.new_ident()
    with server.connect() as client:
        response = client.get(f"/{view}/{ident}?n=3&kind=both&gated&framing={framing}")
    assert response.body == BODY
    assert ("content-length" in response.headers) is (framing == "length")
    finish(server, ident, 3)
    assert server.outcome(ident)["body_bytes"] == len(BODY)


@PAIR
@VIEWS
@pytest.mark.parametrize("framing", ["length", "chunked", "stream"])
def test_head(server: Server, view: str, framing: str) -> None:
    ident, after = server.new_ident(), server.new_ident()
    with server.connect() as client:
        path = f"/{view}/{ident}?gated&framing={framing}"
        assert client.get(path, method="HEAD").status == 200
        assert client.get(f"/{view}/{after}").body == BODY
    finish(server, ident)
    assert server.outcome(ident).items() >= {"completion": "SENT", "body_bytes": 0}.items()


@PAIR
@VIEWS
def test_no_content(server: Server, view: str) -> None:
    ident = server.new_ident()
    with server.connect() as client:
        assert client.get(f"/{view}/{ident}?gated&status=204").status == 204
    finish(server, ident)
    assert server.outcome(ident).items() >= {"status": 204, "body_bytes": 0}.items()


@PAIR
@VIEWS
@KINDS
def test_conditional_get(server: Server, view: str, kind: str) -> None:
    """ConditionalGetMiddleware replaces the response by a 304."""
    ident, after = server.new_ident(), server.new_ident()
    with server.connect() as client:
        response = client.get(
            f"/{view}/{ident}?gated&kind={kind}&etag", headers=('If-None-Match: "fixed"',)
        )
        assert response.status == 304
        assert client.get(f"/{view}/{after}").body == BODY
    finish(server, ident)
    assert (
        server.outcome(ident).items()
        >= {
            "completion": "SENT",
            "status": 304,
            "body_bytes": 0,
            "is_success": True,
        }.items()
    )


@PAIR_BOTH_WAYS
@VIEWS
@KINDS
@pytest.mark.parametrize("end", ["FIN", "RST"])
def test_the_client_closes_after_the_response(
    server: Server, view: str, kind: str, end: str
) -> None:
    ident = server.new_ident()
    client = server.connect()
    client.get(f"/{view}/{ident}?n=2&gated&kind={kind}")
    client.reset() if end == "RST" else client.close()
    finish(server, ident, 2)
    assert server.outcome(ident)["completion"] == "SENT"


@PAIR_BOTH_WAYS
@KINDS
@pytest.mark.parametrize("end", ["FIN", "RST"])
def test_the_client_closes_mid_stream(server: Server, kind: str, end: str) -> None:
    ident = server.new_ident()
    client = server.connect()
    client.send(f"/endless/{ident}?n=2&gated&kind={kind}")
    client.head()
    assert client.chunk() == BODY
    assert server.order(ident) == []
    client.reset() if end == "RST" else client.close()
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


@PAIR
@KINDS
@pytest.mark.parametrize("end", ["FIN", "RST"])
def test_the_client_leaves_during_an_async_view(server: Server, kind: str, end: str) -> None:
    """Django cancels the view. What it had registered runs."""
    ident = server.new_ident()
    client = server.connect()
    client.send(f"/slow-async/{ident}?gated&kind={kind}")
    server.wait(ident, "in view")
    client.reset() if end == "RST" else client.close()
    finish(server, ident)
    outcome = server.outcome(ident)
    assert (outcome["completion"], outcome["status"]) == ("DISCONNECTED", None)


@PAIR
@KINDS
def test_the_client_leaves_during_a_sync_view(server: Server, kind: str) -> None:
    """Django waits for the thread of the view, which registers when the client
    has long gone."""
    ident = server.new_ident()
    client = server.connect()
    client.send(f"/slow-sync/{ident}?gated&kind={kind}")
    server.wait(ident, "in view")
    client.close()
    server.wait(ident, "gone")
    server.release(f"view-{ident}")
    finish(server, ident)
    outcome = server.outcome(ident)
    assert (outcome["completion"], outcome["status"]) == ("DISCONNECTED", None)


@PAIR_BOTH_WAYS
@KINDS
@pytest.mark.parametrize(
    ("page", "status"), [("async-raises", 500), ("sync-raises", 500), ("missing", 404)]
)
def test_error_page(server: Server, page: str, status: int, kind: str) -> None:
    ident = server.new_ident()
    with server.connect() as client:
        assert client.get(f"/{page}/{ident}?n=2&gated&kind={kind}").status == status
    finish(server, ident, 2)
    assert (
        server.outcome(ident).items()
        >= {
            "completion": "SENT",
            "status": status,
            "is_success": False,
        }.items()
    )


@PAIR_BOTH_WAYS
def test_a_stream_that_breaks(server: Server) -> None:
    """The status went out long before: the server can only cut the connection,
    and does it while the callback runs."""
    ident = server.new_ident()
    with server.connect() as client:
        client.send(f"/breaks/{ident}?gated")
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
        }.items()
    )


@PAIR_BOTH_WAYS
def test_a_callback_that_raises_leaves_the_connection_alone(server: Server) -> None:
    """Had its exception left the coroutine, uvicorn would cut the response that
    is under way on this connection."""
    first, second = server.new_ident(), server.new_ident()
    with server.connect() as client:
        assert client.get(f"/callback-fails/{first}").body == BODY
        server.wait(first, "end")
        assert client.get(f"/async/{second}?framing=stream").body == BODY
    assert f"GET /callback-fails/{first} (200)" in server.stderr()
    assert "this callback always fails" in server.stderr()


@pytest.mark.parametrize(
    "config", [Config(DJANGO, lifespan=mode) for mode in ("on", "auto", "off")], ids=str
)
@KINDS
def test_released_or_held(server: Server, kind: str) -> None:
    """The coroutine returns at once where the server speaks lifespan, and stays
    until the callbacks have ended where it does not."""
    ident = server.new_ident()
    server.get(f"/async/{ident}?gated&kind={kind}")
    finish(server, ident)
    server.wait(ident, "returned")
    order = server.order(ident)
    if server.config.lifespan == "off":
        assert order.index("end") < order.index("returned")
    else:
        assert order.index("returned") < order.index("released")
