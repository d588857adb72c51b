"""Helpers: the places in which something comes back in."""

import asyncio
import time
from typing import Any

from async_after import Runner, exchange_scope
from async_after._core.exchange import Exchange, current_exchange
from async_after.wsgi.dispatch import InServer

from .bytecodes import AtBytecode
from .conftest import DEADLINE, finish, loop_exchange, thread_exchange
from .reentry import Door, Ear, Run, cancel_first, end_threads, leave_scope, left_over


class Way:
    """Where it happens."""

    is_async = False
    elsewhere = False
    makes_its_own = False
    """Its exchange: until there is one, what comes back in meets the late one."""

    def __init__(self, runner: Runner, door: Door) -> None:
        """``runner``: that of the process, for scopes, with these ``bounds``."""
        self.runner = runner
        self._door = door
        self.run: Run

    @classmethod
    def bounds(cls) -> dict[str, Any]:
        return {"limit": 2, "pending_limit": 5, "max_threads": 1}

    def new_exchange(self, path: str) -> Exchange:
        return thread_exchange(self.runner, path)

    def prepare(self) -> None:
        late = self.new_exchange("/late")
        exchange = late if self.makes_its_own else self.new_exchange("/x")
        self.run = Run(self.runner, exchange, late, is_async=self.is_async)
        if self._door is leave_scope:
            token = current_exchange.set(None)
            self.run.scope = exchange_scope()
            self.run.register(self.run.scope.__enter__(), is_async=False)
            current_exchange.reset(token)

    def end_late(self) -> None:
        self.run.register(self.run.late)
        finish(self.run.late)

    def come_back(self) -> None:
        was, self.run.is_inside = self.run.is_inside, True
        token = current_exchange.set(None)
        try:
            self._door(self.run)
        finally:
            current_exchange.reset(token)
            self.run.is_inside = was

    def at(self, number: int, **options: Any) -> AtBytecode:
        at = AtBytecode(number, self.come_back, elsewhere=self.elsewhere, **options)
        self.last = at
        return at

    def once(self, number: int, **options: Any) -> AtBytecode:
        """One run; at the end all must be well."""
        self.prepare()
        self.end_late()
        with self.at(number, **options) as at:
            self.go()
        self.settle(at)
        return at

    def go(self) -> None:
        self.run.request(self.run.exchange)
        finish(self.run.exchange)
        cancel_first(self.run)

    def settle(self, at: AtBytecode) -> None:
        self.wait(at)
        self.finally_check(at)

    def wait(self, at: AtBytecode) -> None:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline and at.is_at_work:
            time.sleep(0)
        if self.run.scope is not None and not at.where:
            leave_scope(self.run)
        assert self.runner.capacity.ledger.wait_idle_in_thread(DEADLINE), "not idle"
        while time.monotonic() < deadline and not self.is_at_rest():
            time.sleep(0)

    def is_at_rest(self) -> bool:
        return all(task.done() for task in self.run.tasks) and not left_over(self.runner)

    def finally_check(self, at: AtBytecode) -> None:
        for task in self.run.tasks:
            assert task.done(), task
            assert not isinstance(task.exception(), TimeoutError), task.exception()
        self.run.check(at)
        assert left_over(self.runner) == []
        end_threads(self.runner)


class Threads(Way):
    """In the thread of the request; plain functions run in workers."""


class Workers(Way):
    """In the workers."""

    elsewhere = True

    def once(self, number: int, **options: Any) -> AtBytecode:
        self.prepare()
        with self.at(number, **options) as at:
            self.end_late()
            self.go()
            self.wait(at)
        self.settle(at)  # with what has come back in at the last moment
        return at


class Background(Workers):
    """On the background loop, and in what hands callbacks to it."""

    is_async = True


class Scope(Way):
    """Inline, at the end of a scope."""

    makes_its_own = True

    def go(self) -> None:
        with exchange_scope() as self.run.exchange:
            self.run.request(self.run.exchange, wait=False)
            cancel_first(self.run)


class Wsgi(Way):
    """Inline, in ``close()``."""

    makes_its_own = True

    def go(self) -> None:
        lane = InServer(self.runner)
        exchange = self.run.exchange = Exchange(lane, "GET", "/x")
        self.run.request(exchange)
        exchange.complete()
        if exchange.end():
            lane.run(exchange)
        else:
            lane.finish(exchange)


class Loop(Way):
    """On the event loop of the request."""

    is_async = True

    def new_exchange(self, path: str) -> Exchange:
        return loop_exchange(self.runner, path)

    def once(self, number: int, **options: Any) -> AtBytecode:
        return asyncio.run(self._once(number, **options))

    async def _once(self, number: int, **options: Any) -> AtBytecode:
        self.prepare()
        self.end_late()
        with self.at(number, **options) as at:
            await self.ago()
        if self.run.scope is not None and not at.where:
            leave_scope(self.run)
        await self.runner.drain(DEADLINE)
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline and not self.is_at_rest():
            await asyncio.sleep(0)
        self.finally_check(at)
        return at

    async def ago(self) -> None:
        self.go()
        for _ in range(12):
            await asyncio.sleep(0)


class Crowded(Loop):
    """The same, where more wait than may, and somebody hears of everything."""

    @classmethod
    def bounds(cls) -> dict[str, Any]:
        crowded = {"limit": 1, "pending_limit": 1, "overflow": "drop", "instruments": [Ear()]}
        return {**super().bounds(), **crowded}

    def prepare(self) -> None:
        super().prepare()
        for ear in self.runner.capacity._bounds.instruments:
            if isinstance(ear, Ear):
                ear.run = self.run


class AsyncScope(Loop):
    """Inline, awaited."""

    makes_its_own = True

    async def ago(self) -> None:
        async with exchange_scope() as self.run.exchange:
            self.run.request(self.run.exchange, wait=False)
            self.run.register(self.run.exchange, is_async=False)
            cancel_first(self.run)


PLACES: dict[str, type[Way]] = {
    "loop": Loop,
    "crowded": Crowded,
    "threads": Threads,
    "workers": Workers,
    "background": Background,
    "scope": Scope,
    "async scope": AsyncScope,
    "wsgi": Wsgi,
}
