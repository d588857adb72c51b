"""What callbacks must show with Django and a bare app under a real uvicorn."""

import pytest

from .harness import Server, premature
from .launch import BARE, DJANGO, SPEAKING, Config, pair, product


@pytest.mark.parametrize("config", product(), ids=str)
@pytest.mark.parametrize("view", ["async", "sync"])
def test_200_of_200_complete_when_the_client_closes_at_once(server: Server, view: str) -> None:
    ident = server.new_ident()
    for number in range(200):
        client = server.connect()
        client.get(f"/{view}/{ident}-{number}?delay=0.3")
        if number % 2:
            client.reset()
        else:
            client.close()
    for number in range(200):
        server.wait(f"{ident}-{number}", "end")
        assert server.outcome(f"{ident}-{number}")["completion"] == "SENT"


@pytest.mark.parametrize("config", pair(), ids=str)
@pytest.mark.parametrize("view", ["async", "sync"])
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_10_000_callbacks_of_one_request(server: Server, view: str, kind: str) -> None:
    ident = server.new_ident()
    server.get(f"/{view}/{ident}?n=10000&kind={kind}")
    server.wait(ident, "end", 10_000)
    # Promise 6, in_order.
    assert [e["n"] for e in server.events(ident, "start")] == [*range(10_000)]
    assert [e["n"] for e in server.events(ident, "end")] == [*range(10_000)]


@pytest.mark.parametrize("config", product(), ids=str)
def test_never_before(server: Server) -> None:
    """No callback starts before the server's ``send`` of the last message has
    returned; the ``server`` fixture checks that for all other tests too."""
    framings = ("framing=length", "framing=chunked", "framing=stream", "status=204", "status=404")
    idents = []
    with server.connect() as client:
        for view in ("async", "sync"):
            for kind in ("async", "sync", "both"):
                for framing in framings:
                    ident = server.new_ident()
                    idents.append(ident)
                    client.get(f"/{view}/{ident}?n=4&kind={kind}&{framing}")
    for ident in idents:
        server.wait(ident, "end", 4)
        order = server.order(ident)
        assert order.index("sent") < order.index("outcome") < order.index("start")
    assert not premature(server.events())


@pytest.mark.parametrize("config", product(BARE, lifespan="off"), ids=str)
def test_an_error_page_does_not_wait_for_callbacks(server: Server) -> None:
    idents = {kind: server.new_ident() for kind in ("async", "sync")}
    for kind, ident in idents.items():
        assert server.get(f"/raises/{ident}?n=1&delay=2&kind={kind}").status == 500
        server.note("response", ident)
    for ident in idents.values():
        server.wait(ident, "end")
        order = server.order(ident)
        assert order.index("response") < order.index("end")
        assert (
            server.outcome(ident).items()
            >= {
                "completion": "FAILED",
                "status": None,
                "error": "RuntimeError",
            }.items()
        )


@pytest.mark.parametrize(
    "config",
    [
        *(Config(app, lifespan=mode) for app in (DJANGO, BARE) for mode in ("on", "auto", "off")),
        Config(http="h11", loop="asyncio", lifespan="on"),
        Config(http="h11", loop="asyncio", lifespan="off"),
        Config(SPEAKING, lifespan="on"),
    ],
    ids=str,
)
def test_sigterm_while_callbacks_run(own_server: Server) -> None:
    """Both callbacks complete, by the drain where the server speaks lifespan
    and by the held coroutine where it does not."""
    server = own_server
    path = "/async/" if server.config.app == DJANGO else "/length/"
    server.get(f"{path}coroutine?n=2&delay=0.5&kind=async")
    server.get(f"{path}plain?n=2&delay=0.5&kind=sync")
    server.wait("coroutine", "start")
    server.wait("plain", "start")
    server.terminate()
    server.note("SIGTERM", "coroutine")
    server.wait_for_exit()
    for ident in ("coroutine", "plain"):
        assert len(server.events(ident, "end")) == 2, server.report()
    order = server.order("coroutine")
    assert order.index("SIGTERM") < order.index("end")
    if server.config.app == SPEAKING:
        # Drained before the app hears of the shutdown, while its pools are open.
        events = [(e["id"], e["event"]) for e in server.events()]
        assert events.index(("lifespan", "shutdown")) == len(events) - 1, server.report()
