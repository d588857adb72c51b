"""Promise 2 of dormant callbacks under real threads: commits and rollbacks against the
end of the exchange, against each other, and against the shutdown."""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from async_after import Callback, CallbackState, Runner, after_response
from async_after._core.exchange import KEY, Exchange
from async_after._core.runner import InlineDispatcher
from async_after.wsgi.dispatch import InServer

from ..conftest import DEADLINE, MakeRunner, finish, free, loop_exchange, thread_exchange
from .test_dormant import dormant, over
from .test_exchange_threads import frequent_switches as frequent_switches

ROUNDS = 200
Call = Callable[[], object]
# What happens to a dormant callback: the two last ones at the same time.
FATES = ("commit", "commit", "rollback", "cancel", "commit or rollback")
STATES = {
    "plain": {CallbackState.SUCCEEDED},
    "commit": {CallbackState.SUCCEEDED},
    "rollback": {CallbackState.SKIPPED},
    "cancel": {CallbackState.CANCELLED},
    "commit or rollback": {CallbackState.SUCCEEDED, CallbackState.SKIPPED},
}


class Racers:
    """Threads that wait for each other, and then call what they are given at once."""

    def __init__(self, count: int) -> None:
        self._begin = threading.Barrier(count + 1)
        self._end = threading.Barrier(count + 1)
        self._work: list[list[Call]] = [[] for _ in range(count)]
        self._is_over = False
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._race, args=(number,), daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _race(self, number: int) -> None:
        while True:
            self._begin.wait(DEADLINE * 3)
            if self._is_over:
                return
            for function in self._work[number]:
                try:
                    function()
                except BaseException as error:
                    self._errors.append(error)
            self._end.wait(DEADLINE)

    def run(self, *work: list[Call]) -> None:
        self._work = [*work]
        self._begin.wait(DEADLINE)
        self._end.wait(DEADLINE)
        assert not self._errors

    def stop(self) -> None:
        self._is_over = True
        self._begin.wait(DEADLINE)
        for thread in self._threads:
            thread.join(DEADLINE)


@contextmanager
def racing(count: int) -> Iterator[Racers]:
    racers = Racers(count)
    try:
        yield racers
    finally:
        racers.stop()


# An exchange, and what its adapter does at the end, in each place there is.


def _in_threads(runner: Runner, loop: asyncio.AbstractEventLoop) -> tuple[Exchange, Call]:
    exchange = thread_exchange(runner)
    return exchange, partial(finish, exchange)


def _in_the_loop(runner: Runner, loop: asyncio.AbstractEventLoop) -> tuple[Exchange, Call]:
    exchange = Exchange(runner.dispatcher(loop), "GET", "/x")
    return exchange, partial(loop.call_soon_threadsafe, finish, exchange)


def _inline(runner: Runner, loop: asyncio.AbstractEventLoop) -> tuple[Exchange, Call]:
    host = InlineDispatcher(runner)
    exchange = Exchange(host)

    def end() -> None:
        exchange.complete()
        exchange.end()
        host.run(exchange)

    return exchange, end


def _in_the_server(runner: Runner, loop: asyncio.AbstractEventLoop) -> tuple[Exchange, Call]:
    lane = InServer(runner)
    exchange = Exchange(lane.host, "GET", "/x")

    def end() -> None:
        exchange.start(200, ())
        exchange.complete()
        if exchange.end():
            lane.run(exchange)
        else:
            lane.finish(exchange)

    return exchange, end


class Round:
    """Some callbacks of one exchange, and what is to become of each."""

    def __init__(self, exchange: Exchange, chance: random.Random) -> None:
        self.exchange = exchange
        self.chance = chance
        self.ran: list[int] = []
        self.callbacks: list[tuple[Callback[Any], str]] = []
        self.late = self.early = 0
        registrar = after_response.using(request={KEY: exchange})
        for number in range(chance.randint(1, 8)):
            concurrent = chance.random() < 0.3
            if chance.random() < 0.3:
                plain = registrar.using(concurrent=concurrent)(self.ran.append, number)
                self.callbacks.append((plain, "plain"))
            else:
                sleeper = dormant(exchange, self.ran.append, number, concurrent=concurrent)
                self.callbacks.append((sleeper, chance.choice(FATES)))

    def commits(self) -> list[Call]:
        return self._shuffled(
            partial(self._ready, callback)
            for callback, fate in self.callbacks
            if fate.startswith("commit")
        )

    def rollbacks(self) -> list[Call]:
        return self._shuffled(
            callback.cancel if fate == "cancel" else partial(self.exchange.skip_dormant, callback)
            for callback, fate in self.callbacks
            if fate in ("cancel", "rollback", "commit or rollback")
        )

    def _shuffled(self, calls: Iterator[Call]) -> list[Call]:
        found = [*calls]
        self.chance.shuffle(found)
        return found

    def _ready(self, callback: Callback[Any]) -> None:
        is_late = self.exchange.is_ended
        self.exchange.ready(callback)
        self.late += is_late
        self.early += not is_late

    def check(self) -> None:
        assert over(*(callback for callback, _ in self.callbacks)), "lost: it never ends"
        for callback, fate in self.callbacks:
            assert callback.state in STATES[fate], fate
        succeeded = [
            number
            for number, (callback, _) in enumerate(self.callbacks)
            if callback.state is CallbackState.SUCCEEDED
        ]
        assert sorted(self.ran) == succeeded, "each one once"
        # Promise 6, as far as it is promised here: among those that were never dormant.
        plain = [
            number
            for number, (callback, fate) in enumerate(self.callbacks)
            if fate == "plain" and not callback.options.concurrent
        ]
        assert [number for number in self.ran if number in plain] == plain
        assert (self.exchange.pending(), self.exchange.dormant()) == ([], [])


@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.parametrize("place", [_in_threads, _in_the_loop, _inline, _in_the_server])
async def test_commits_and_rollbacks_against_the_end(make_runner: MakeRunner, place: Any) -> None:
    runner = make_runner()
    loop = asyncio.get_running_loop()
    chance = random.Random(5)

    def play() -> tuple[int, int, int]:
        registered = early = late = 0
        with racing(3) as racers:
            for _ in range(ROUNDS):
                exchange, end = place(runner, loop)
                game = Round(exchange, chance)
                racers.run([end], game.commits(), game.rollbacks())
                game.check()
                registered += len(game.callbacks)
                early, late = early + game.early, late + game.late
        return registered, early, late

    registered, early, late = await asyncio.to_thread(play)
    assert early, "all commits came after the end: this run has shown nothing"
    assert late, "all commits came before the end: this run has shown nothing"
    await runner.drain(DEADLINE)
    await free(runner)
    statistics = runner.statistics()
    assert statistics.registered == registered
    assert statistics.failed == statistics.dropped == statistics.pending == statistics.waiting == 0
    assert statistics.open_exchanges == statistics.running == 0
    assert not runner.capacity.ledger.dormant()


@pytest.mark.usefixtures("frequent_switches")
async def test_registering_against_the_end(make_runner: MakeRunner) -> None:
    """Transactions begin, commit and roll back in threads that do not know of the end."""
    runner = make_runner()
    each = 40

    def transactions(exchange: Exchange, sleepers: list[Callback[Any]], ran: list[int]) -> None:
        for count in range(each):
            sleeper = dormant(exchange, ran.append, count)
            sleepers.append(sleeper)
            end = exchange.ready if count % 4 else exchange.skip_dormant
            end(sleeper)

    def play() -> None:
        with racing(4) as racers:
            for _ in range(ROUNDS // 4):
                exchange = thread_exchange(runner)
                sleepers: list[Callback[Any]] = []
                ran: list[list[int]] = [[], [], []]
                work: list[list[Call]] = [
                    [partial(transactions, exchange, sleepers, mine)] for mine in ran
                ]
                racers.run([partial(finish, exchange)], *work)
                assert over(*sleepers), "lost: they never end"
                for mine in ran:
                    # In order: each transaction has ended before the next one began.
                    assert mine == [count for count in range(each) if count % 4]

    await asyncio.to_thread(play)
    statistics = runner.statistics()
    assert statistics.registered == ROUNDS // 4 * 3 * each == statistics.succeeded * 4 // 3
    assert statistics.skipped == statistics.succeeded // 3


async def forgotten(runner: Runner) -> None:
    """Wait until none is in the books: a thread may say of one that it has ended, and be just
    about to take it out."""
    async with asyncio.timeout(DEADLINE):
        while runner.capacity.ledger.dormant():
            await asyncio.sleep(0)


@pytest.mark.usefixtures("frequent_switches")
async def test_commits_against_the_shutdown(make_runner: MakeRunner) -> None:
    """Each one has run, or is DROPPED; none is forgotten."""
    loop = asyncio.get_running_loop()
    chance = random.Random(7)
    states: set[CallbackState] = set()
    for _ in range(ROUNDS // 4):
        runner = make_runner()
        exchanges = [loop_exchange(runner) for _ in range(4)]
        ran: list[int] = []
        sleepers = [
            dormant(exchange, ran.append, number) for number, exchange in enumerate(exchanges * 4)
        ]
        for exchange in exchanges:
            finish(exchange)
        pairs = [*zip(exchanges * 4, sleepers, strict=True)]
        chance.shuffle(pairs)

        def commit(pairs: list[tuple[Exchange, Callback[Any]]] = pairs) -> None:
            for exchange, sleeper in pairs:
                exchange.ready(sleeper)

        committing = loop.run_in_executor(None, commit)
        await runner.aclose()
        await committing
        assert await asyncio.to_thread(over, *sleepers), "lost: they never end"
        found = {sleeper.state for sleeper in sleepers}
        assert found <= {CallbackState.SUCCEEDED, CallbackState.DROPPED}
        states |= found
        assert len(ran) == sum(s.state is CallbackState.SUCCEEDED for s in sleepers)
        assert runner.statistics().registered == len(sleepers)
        await forgotten(runner)
    assert CallbackState.DROPPED in states, "this run has shown nothing"
