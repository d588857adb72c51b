"""Promise 2 under real threads: registering against the end and against an empty queue."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from async_after import Callback, CallbackState, Delivery, Runner, after_response
from async_after._core.exchange import KEY, Exchange

from ..conftest import DEADLINE, MakeRunner, entered, free, thread_exchange

ROUNDS, THREADS, EACH = 50, 4, 500


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class Registering:
    """Threads that all register on the exchange of the current round."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None
        self.begin = threading.Barrier(THREADS + 1)
        self.over = threading.Barrier(THREADS + 1)
        self.are_busy = threading.Event()
        self.ran: list[tuple[int, int]] = []
        self.callbacks: list[Callback[Any]] = []
        self.threads = [
            threading.Thread(target=self.register, args=(number,), daemon=True)
            for number in range(THREADS)
        ]

    def register(self, number: int) -> None:
        # The last thread registers callbacks that are claimed one by one.
        registrar = after_response.using(concurrent=number == THREADS - 1)
        for _ in range(ROUNDS):
            self.begin.wait(DEADLINE)
            here = registrar.using(request={KEY: self.exchange})
            for count in range(EACH):
                self.callbacks.append(here(self.ran.append, (number, count)))
                if count == EACH // 10:
                    self.are_busy.set()
            self.over.wait(DEADLINE)


@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.exhaustive  # 100,000 registrations
def test_once_or_accounted(make_runner: MakeRunner) -> None:
    """100,000 registrations while exchanges end and queues run dry: none lost, none twice."""
    runner = make_runner()
    work = Registering()
    for thread in work.threads:
        thread.start()
    late = 0
    for _ in range(ROUNDS):
        work.ran.clear()
        work.callbacks.clear()
        work.are_busy.clear()
        exchange = work.exchange = thread_exchange(runner)
        work.begin.wait(DEADLINE)
        assert work.are_busy.wait(DEADLINE)
        if exchange.end():
            exchange.host.dispatch(exchange)
        late += THREADS * EACH - len(work.callbacks)
        work.over.wait(DEADLINE)
        assert exchange.idle_latch().wait_in_thread(DEADLINE), "lost: they never end"

        assert len(work.callbacks) == THREADS * EACH
        assert {callback.state for callback in work.callbacks} == {CallbackState.SUCCEEDED}
        assert sorted(work.ran) == [(t, n) for t in range(THREADS) for n in range(EACH)]
        for number in range(THREADS - 1):
            mine = [count for thread, count in work.ran if thread == number]
            assert mine == list(range(EACH)), "out of order (promise 6)"
    for thread in work.threads:
        thread.join(DEADLINE)
    assert late > 0, "the end came after all registrations: this run has shown nothing"
    asyncio.run(free(runner))
    assert not runner.capacity.ledger._exchanges


@pytest.mark.usefixtures("frequent_switches")
def test_cancelling_against_starting(make_runner: MakeRunner) -> None:
    """``cancel()`` answers True exactly for those that then never run."""
    runner = make_runner()
    for _ in range(20):
        exchange = thread_exchange(runner)
        ran: list[int] = []
        registrar = after_response.using(request={KEY: exchange})
        callbacks = [registrar(ran.append, number) for number in range(200)]
        exchange.end()
        exchange.host.dispatch(exchange)
        cancelled = [number for number in reversed(range(200)) if callbacks[number].cancel()]
        assert exchange.idle_latch().wait_in_thread(DEADLINE)
        assert sorted([*ran, *cancelled]) == list(range(200))
        assert all(callbacks[n].state is CallbackState.CANCELLED for n in cancelled)
        assert all(callbacks[n].state is CallbackState.SUCCEEDED for n in ran)


class Connected(Exchange):
    __slots__ = ()

    def _connection(self) -> "Connected":
        return self

    def look(self) -> tuple[Delivery, bool]:
        time.sleep(0)  # others may run here
        return Delivery.FLUSHED, True


@pytest.mark.usefixtures("frequent_switches")
@pytest.mark.parametrize("callbacks", [0, 1])
def test_sealed_once(runner: Runner, callbacks: int) -> None:
    """All threads are given the same outcome, that which was there first."""
    for _ in range(100):
        exchange = Connected(runner.thread_dispatcher(), "GET", "/x")
        for _ in range(callbacks):
            with entered(exchange):
                after_response(int)
        exchange.start(200, [(b"a", b"b")] * 50)
        exchange.body(0, completes=True)
        exchange.end()
        barrier = threading.Barrier(4)

        def ask(exchange: Exchange = exchange, barrier: threading.Barrier = barrier) -> object:
            barrier.wait(DEADLINE)
            return exchange.outcome

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask) for _ in range(4)]
        assert len({id(each.result()) for each in asked}) == 1
        exchange.host.dispatch(exchange)
