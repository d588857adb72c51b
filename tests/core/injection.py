"""Helpers: what runs while an exception comes at any entry, and what must hold then."""

import asyncio
import itertools
import time
from typing import Any

from async_after import Callback, CallbackState, Runner, after_response, exchange_scope
from async_after._core.exchange import Exchange, current_exchange
from async_after.wsgi.dispatch import InServer

from .capacity.test_statistics import at_rest
from .conftest import DEADLINE, entered, loop_exchange, thread_exchange
from .entries import AtEntry
from .reentry import end_threads, left_over

S = CallbackState


class Way:
    """One way through the core. What is raised there may reach the view, or the adapter."""

    is_async = False
    elsewhere = False

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.handles: list[Callback[Any]] = []
        self.ran: list[int] = []
        self._numbers = itertools.count()
        self.error: BaseException
        self.last: AtEntry

    @classmethod
    def bounds(cls) -> dict[str, Any]:
        return {"limit": 2, "pending_limit": 5, "max_threads": 1}

    def new_exchange(self, path: str) -> Exchange:
        return thread_exchange(self.runner, path)

    # What is registered.

    def plain(self, number: int) -> None:
        self.ran.append(number)

    async def coroutine(self, number: int) -> None:
        self.ran.append(number)

    async def suspends(self, number: int) -> None:
        await asyncio.sleep(0)
        self.ran.append(number)

    def fails(self, number: int) -> None:
        self.ran.append(number)
        raise ValueError(number)

    def register(self, exchange: Exchange, function: Any, **options: Any) -> None:
        try:
            with entered(exchange):
                handle = after_response.using(**options)(function, next(self._numbers))
        except Exception as raised:
            # An option that cannot be looked at is refused.
            if raised is not self.error and not str(raised).startswith("using("):
                raise
        else:
            self.handles.append(handle)

    def view(self, exchange: Exchange) -> None:
        first: Any = self.coroutine if self.is_async else self.plain
        second: Any = self.plain if self.is_async else self.coroutine
        self.register(exchange, first)
        self.register(exchange, first, key=1)
        self.register(exchange, first, key=1)
        self.register(exchange, self.fails)
        self.register(exchange, second)
        self.register(exchange, self.suspends)
        self.register(exchange, first, concurrent=True)
        self.register(exchange, second, concurrent=True)
        self.register(exchange, first, timeout=DEADLINE)
        self.register(exchange, first, when="error")
        self.register(exchange, first)
        if len(self.handles) > 1:
            self.spite(self.handles[-1].cancel)

    def spite(self, function: Any, *arguments: Any) -> Any:
        """Call it, and again where that was it."""
        try:
            return function(*arguments)
        except type(self.error) as raised:
            if raised is not self.error:
                raise
            return function(*arguments)

    def finish(self, exchange: Exchange) -> None:
        """As adapters do."""
        self.spite(exchange.complete)
        if self.spite(exchange.end):
            self.spite(exchange.host.dispatch, exchange)

    # One run.

    def go(self) -> None:
        exchange = self.new_exchange("/x")
        self.view(exchange)
        self.finish(exchange)
        self.register(exchange, self.plain)
        self.register(exchange, self.coroutine, concurrent=True)

    def once(self, number: int, error: BaseException) -> AtEntry:
        self.error = error
        with AtEntry(number, error, elsewhere=self.elsewhere) as self.last:
            try:
                self.go()
                if self.elsewhere:
                    self.runner.capacity.ledger.wait_idle_in_thread(1.0)
            except type(error) as raised:
                if raised is not error:
                    raise
        self.forget()
        asyncio.run(self.drain())
        self.check()
        return self.last

    def forget(self) -> None:
        """What the exception has left: where it was raised, and a scope that could not be left."""
        self.error.__traceback__ = self.error.__context__ = None
        current_exchange.set(None)

    async def drain(self) -> None:
        await self.runner.drain(DEADLINE)
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline and left_over(self.runner):
            await asyncio.sleep(0)

    def check(self) -> None:
        statistics = self.runner.statistics()
        assert at_rest(statistics), statistics
        assert [handle for handle in self.handles if not handle.done()] == []
        assert left_over(self.runner) == []
        assert len({*self.ran}) == len(self.ran), "one has run twice"
        for handle in self.handles:
            if handle.state is S.SUCCEEDED:
                assert handle.result() is None
        # It works as ever, when what has died is gone.
        assert self.works() or self.works()
        end_threads(self.runner)

    def works(self) -> bool:
        exchange = thread_exchange(self.runner)
        with entered(exchange):
            handles: list[Callback[Any]] = [after_response(int)]
            handles.append(after_response(self.coroutine, -1))
        exchange.complete()
        if exchange.end():
            exchange.host.dispatch(exchange)
        assert exchange.idle_latch().wait_in_thread(DEADLINE), "it works no more"
        return {handle.state for handle in handles} == {S.SUCCEEDED}


class Threads(Way):
    """In the thread of the request."""


class Workers(Way):
    """In the workers, and on the background loop."""

    elsewhere = True


class Background(Workers):
    is_async = True


class Scope(Way):
    """Inline, at the end of a scope."""

    def go(self) -> None:
        scope = exchange_scope()
        try:
            with scope as exchange:
                self.view(exchange)
        finally:
            if scope._entered:  # it could not be left
                scope.__exit__(None, None, None)
        self.register(exchange, self.plain)


class Wsgi(Way):
    """Inline, in ``close()``."""

    def go(self) -> None:
        lane = InServer(self.runner)
        exchange = Exchange(lane, "GET", "/x")
        self.view(exchange)
        self.spite(exchange.complete)
        if self.spite(exchange.end):
            self.spite(lane.run, exchange)


class Loop(Way):
    """On the event loop of the request."""

    is_async = True

    def new_exchange(self, path: str) -> Exchange:
        return loop_exchange(self.runner, path)

    def once(self, number: int, error: BaseException) -> AtEntry:
        self.error = error
        return asyncio.run(self._once(number, error))

    async def _once(self, number: int, error: BaseException) -> AtEntry:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        with AtEntry(number, error) as self.last:
            try:
                await asyncio.wait_for(self.ago(), DEADLINE)
            except type(error) as raised:
                if raised is not error:
                    raise
        self.forget()
        await self.drain()
        self.check()
        return self.last

    async def ago(self) -> None:
        self.go()
        for _ in range(30):
            await asyncio.sleep(0)


class Crowded(Loop):
    """The same, where more wait than may."""

    @classmethod
    def bounds(cls) -> dict[str, Any]:
        return {"limit": 1, "pending_limit": 1, "overflow": "drop", "max_threads": 1}


class AsyncScope(Loop):
    """Inline, awaited."""

    async def ago(self) -> None:
        scope = exchange_scope()
        try:
            async with scope as exchange:
                self.view(exchange)
        finally:
            if scope._entered:  # it could not be left
                await scope.__aexit__(None, None, None)
        self.register(exchange, self.coroutine)


class Shutdown(Loop):
    """Callbacks are waited for, dropped and cancelled."""

    @classmethod
    def bounds(cls) -> dict[str, Any]:
        return {**super().bounds(), "wait_timeout": 0.02, "close_timeout": 0.02}

    async def forever(self, number: int) -> None:
        await asyncio.Event().wait()

    async def ago(self) -> None:
        try:
            self.fill()
        finally:
            try:
                await self.runner.aclose()
            except Exception as raised:
                if raised is not self.error:
                    raise
                await self.runner.aclose()

    def fill(self) -> None:
        exchange = self.new_exchange("/x")
        for function in (self.coroutine, self.forever, self.plain):
            self.register(exchange, function)
            self.register(exchange, function, concurrent=True)
        self.finish(exchange)
        self.register(self.new_exchange("/open"), self.plain)


PLACES: dict[str, type[Way]] = {
    "shutdown": Shutdown,
    "loop": Loop,
    "crowded": Crowded,
    "threads": Threads,
    "workers": Workers,
    "background": Background,
    "scope": Scope,
    "async scope": AsyncScope,
    "wsgi": Wsgi,
}
