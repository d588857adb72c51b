"""ACKNOWLEDGED is never said of what the client's kernel has not received.

0 false claims in 1,000 random trials on uvicorn.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from .delivery.peer import Peer
from .delivery.trials import Asked, Trial, Wire
from .harness import Event, Servers, wait_until
from .launch import Config

APP = "tests.servers.delivery.asgi:application"
CONFIGS = (
    Config(APP, http="httptools", loop="asyncio"),
    Config(APP, http="httptools", loop="uvloop"),
    Config(APP, http="h11", loop="asyncio"),
)
TRIALS = 1_000
SEED = 20_261_205
AT_ONCE = 24


def test_1_000_random_clients(servers: Servers) -> None:
    print(f"seed {SEED}")
    wires = {server: Wire(server) for server in map(servers.get, CONFIGS)}
    trials = [Trial(wires, f"{SEED}-{number}", f"t{number}") for number in range(TRIALS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [asked for found in pool.map(Trial.run, trials) for asked in found]

    found: dict[str, dict[str, Event]] = {}

    def is_known() -> bool:
        found.clear()
        for server in wires:
            for event in server.events():
                if event["id"].startswith("t"):
                    found.setdefault(event["id"], {})[event["event"]] = event
        return all("waited" in events and "sealed" in events for events in found.values())

    wait_until(is_known, lambda: "outcomes are missing")
    served = [one for one in asked if one.ident in found]
    claims = [(one, event) for one in served for event in _claims(found[one.ident])]
    print(Counter(found[one.ident]["waited"]["delivery"] for one in served))
    assert not [
        (one.ident, one.server.config, event, one.begin, one.total, one.received)
        for one, event in claims
        if one.is_false(event["at"])
    ]
    claimed = {one.ident for one, _ in claims}
    assert len(claimed) > TRIALS // 5
    assert len([one for one in served if not one.is_received]) > TRIALS // 5


def _claims(events: dict[str, Event]) -> list[Event]:
    return [event for event in events.values() if event.get("delivery") == "ACKNOWLEDGED"]


def test_what_a_false_claim_is(servers: Servers) -> None:
    (server,) = map(servers.get, CONFIGS[:1])
    peer = Peer(server.port)
    peer.close()
    asked = Asked(server, "it", 100, 50, peer, received=150)
    peer.samples = [(1.0, 120), (2.0, 150)]
    assert not asked.is_false(1.5)
    assert asked.is_false(0.5), "after that the client had 120 of 150 bytes"
    asked.received = 149
    assert asked.is_false(1.5)
