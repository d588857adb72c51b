"""Promise 9, bounded: what many or bad callbacks do to the other requests."""

import asyncio
import json
from itertools import pairwise

import pytest

from .chaos import Visitor
from .client import DEADLINE
from .endings import MAX_THREADS
from .harness import Server
from .launch import Config


class Crowd:
    """Requests at once, each on a connection of its own."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def get(self, target: str, ident: str) -> int:
        visitor = await Visitor.to(self._server.port)
        try:
            visitor.ask(target)
            status = await visitor.read()
            self._server.note("answered", ident)
            return status
        finally:
            await visitor.close()

    async def ask_until(self, done: asyncio.Event, view: str) -> None:
        """One after the other, on and on."""
        number = 0
        while not done.is_set():
            number += 1
            assert await self.get(f"/{view}/{view}-{number}", view) == 200
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("config", [Config()], ids=str)
def test_200_requests_with_sync_callbacks_of_half_a_second(own_server: Server) -> None:
    """All done within 4 s, in at most ``max_threads`` threads, while views are answered.

    Seven rounds of half a second are 3.5 s. What a busy machine needs to accept
    200 connections comes before the first callback, and is not counted.
    """
    server, crowd = own_server, Crowd(own_server)
    idents = [f"crowd{number}" for number in range(200)]
    seen: list[int] = []

    async def count_threads(done: asyncio.Event) -> None:
        while not done.is_set():
            names = await asyncio.to_thread(lambda: json.loads(server.get("/threads/x").body))
            seen.append(sum(name.startswith("async_after worker") for name in names))
            await asyncio.sleep(0.1)

    async def main() -> None:
        done = asyncio.Event()
        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
            others = [
                tasks.create_task(count_threads(done)),
                tasks.create_task(crowd.ask_until(done, "plain-async")),
                tasks.create_task(crowd.ask_until(done, "plain-sync")),
            ]
            requests = [
                tasks.create_task(crowd.get(f"/async/{ident}?kind=sync&delay=0.5", ident))
                for ident in idents
            ]
            for request in requests:
                assert await request == 200
            while len(server.events(None, "end")) < len(idents):
                await asyncio.sleep(0.01)
            done.set()
            await asyncio.gather(*others)

    asyncio.run(main())
    ends = server.events(None, "end")
    assert {event["id"] for event in ends} == set(idents)
    assert ends[-1]["at"] - server.events(None, "start")[0]["at"] < 4
    assert max(seen) == MAX_THREADS
    # Views are answered all the time: between any two rounds of the threads.
    for view in ("plain-async", "plain-sync"):
        answered = [event["at"] for event in server.events(view, "answered")]
        rounds = [event["at"] for event in ends][MAX_THREADS - 1 :: MAX_THREADS]
        for first, second in pairwise(rounds):
            assert any(first < at < second for at in answered), (view, first, second, answered)


@pytest.mark.parametrize("config", [Config().settings(LIMIT=10)], ids=str)
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_more_than_the_limit(server: Server, kind: str) -> None:
    """Those over the limit are kept, and requests are answered meanwhile."""
    idents = [server.new_ident() for _ in range(15)]
    with server.connect() as client:
        for ident in idents:
            assert client.get(f"/async/{ident}?gated&kind={kind}").status == 200
        for ident in idents[:10]:
            server.wait(ident, "start")
        for _ in range(10):
            assert client.get("/plain-async/x").status == 200
            assert client.get("/plain-sync/x").status == 200
    assert not any(server.events(ident, "start") for ident in idents[10:])
    for ident in idents:
        server.release(ident)
    for ident in idents:
        server.wait(ident, "end")


@pytest.mark.parametrize("config", [Config()], ids=str)
def test_an_async_callback_that_blocks_is_named(own_server: Server) -> None:
    """Once, however often it does it, with a way out. Others wait for it."""
    server = own_server
    with server.connect() as client:
        for ident in ("first", "second"):
            assert client.get(f"/freezes/{ident}").status == 200
            server.wait(ident, "freeze")
            assert client.get("/plain-async/x").status == 200
            server.note("answered", ident)
            server.wait(ident, "end")
            assert server.order(ident).index("end") < server.order(ident).index("answered")
    warnings = [line for line in server.stderr().splitlines() if "probes.freeze" in line]
    assert len(warnings) == 1, server.report()
    assert "background" in warnings[0]


@pytest.mark.parametrize("config", [Config()], ids=str)
def test_in_the_background_it_holds_nobody_up(own_server: Server) -> None:
    server = own_server
    with server.connect() as client:
        assert client.get("/freezes/r?lane=background").status == 200
        server.wait("r", "freeze")
        for view in ("async", "sync"):
            assert client.get(f"/plain-{view}/x").status == 200
            server.note("answered", "r")
        server.wait("r", "end")
    order = [name for name in server.order("r") if name in ("freeze", "answered", "end")]
    assert order == ["freeze", "answered", "answered", "end"]
    assert "probes.freeze" not in server.stderr(), server.report()
