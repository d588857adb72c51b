"""Promise 2, once_or_accounted, under clients that close, reset and stall at random.

Of 10,000 callbacks registered so, 10,000 are accounted
for, by the events of the callbacks and by ``statistics()``, and none is lost.
"""

import asyncio
import json
import random
from collections import Counter

import pytest

from .chaos import Chaos
from .harness import Server, wait_until
from .launch import ALONE, DJANGO, Config
from .site.probes import MIXED

CALLBACKS = 10_000
REQUESTS = CALLBACKS // MIXED
SEED = 20_261_121


def target(random: random.Random, ident: str) -> str:
    """A request for a mixed bag of callbacks."""
    view = random.choice(("async", "async", "sync"))
    framing = random.choice((*["length"] * 8, *["stream"] * 8, *["big"] * 2, "error"))
    wait = random.choice((0, 0, 0, 0.005))
    delay = random.choice((0, 0.001, 0.01))
    return f"/mixed-{view}/{ident}?framing={framing}&view={wait}&delay={delay}"


def statistics(server: Server) -> dict[str, int]:
    counted: dict[str, int] = json.loads(server.get("/statistics/x").body)
    return counted


def registered(server: Server) -> list[str]:
    return [event["id"] for event in server.events(None, "registered")]


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(server="hypercorn"),
        Config(server="granian"),
        Config(server="gunicorn-uvicorn"),
        Config(server="gunicorn-asgi"),
        Config(ALONE),
    ],
    ids=str,
)
def test_10_000_under_chaos(own_server: Server) -> None:
    server = own_server
    asyncio.run(Chaos(server.port, target, SEED).run(REQUESTS))
    # Some have gone before their view was reached.
    with server.connect() as client:
        while len(registered(server)) < REQUESTS:
            client.get(f"/mixed-async/{server.new_ident()}")

    def all_is_over() -> bool:
        counted = statistics(server)
        total = MIXED * len(registered(server))
        return not (counted["pending"] or counted["running"]) and counted["registered"] == total

    wait_until(all_is_over, lambda: f"{statistics(server)}\n{server.report()}")
    counted = statistics(server)
    idents = registered(server)
    assert counted["registered"] == MIXED * len(idents) >= CALLBACKS

    ends = Counter((event["id"], event["n"]) for event in server.events(None, "end"))
    assert set(ends.values()) == {1}, "callbacks that ran twice"
    for ident in idents:
        ran = [number for number in range(MIXED) if (ident, number) in ends]
        replaced = [6] if 6 in ran else []
        assert ran in ([0, 1, 2, one, *replaced, 7] for one in (3, 4, 5)), (ident, ran)
    failing = sum(ident.endswith("7") for ident in idents)
    assert counted == {
        "open_exchanges": counted["open_exchanges"],
        "pending": 0,
        "running": 0,
        "overdue": 0,
        "succeeded": len(ends) - failing,
        "failed": failing,
        "timed_out": 0,
        "cancelled": sum((ident, 6) not in ends for ident in idents),
        "skipped": 2 * len(idents),
        "dropped": 0,
        "registered": MIXED * len(idents),
    }
    assert "dropped" not in server.stderr(), server.report()


@pytest.mark.parametrize(
    "config",
    [Config(app, loop=loop) for app in (DJANGO, ALONE) for loop in ("uvloop", "asyncio")],
    ids=str,
)
def test_a_client_that_pipelines_and_leaves(server: Server) -> None:
    """uvicorn tells only the last request that the client has gone; for the
    others its ``send`` raises ``RuntimeError`` on uvloop, and does nothing on asyncio."""
    first, second = server.new_ident(), server.new_ident()
    client = server.connect()
    client.send_all(f"/mixed-async/{first}?framing=stream&view=0.1", f"/mixed-async/{second}")
    client.reset()
    server.wait(first, "registered")
    server.wait(first, "end", MIXED - 3)
