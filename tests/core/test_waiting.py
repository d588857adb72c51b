"""The latch: opens once, for coroutines of any loop and for threads."""

import asyncio
import threading

from async_after.waiting import Latch

from .conftest import DEADLINE


async def test_open_already() -> None:
    latch = Latch()
    latch.open()
    assert await latch.wait(DEADLINE)
    assert latch.wait_in_thread(DEADLINE)
    heard: list[int] = []
    latch.subscribe(lambda: heard.append(1))
    latch.open()
    assert heard == [1]


async def test_in_vain() -> None:
    """Whoever has given up is not told any more."""
    latch = Latch()
    assert not await latch.wait(0)
    assert not latch.wait_in_thread(0)
    assert not latch._listeners
    heard: list[int] = []

    def listener() -> None:
        heard.append(1)

    latch.subscribe(listener)
    latch.unsubscribe(listener)
    latch.unsubscribe(listener)
    latch.open()
    assert not heard


async def test_opened_by_a_thread() -> None:
    latch, is_waiting = Latch(), threading.Event()

    def thread() -> bool:
        is_waiting.set()
        return latch.wait_in_thread(DEADLINE)

    waiting = asyncio.ensure_future(latch.wait(DEADLINE))
    in_thread = asyncio.ensure_future(asyncio.to_thread(thread))
    await asyncio.to_thread(is_waiting.wait, DEADLINE)
    await asyncio.to_thread(latch.open)
    assert await waiting
    assert await in_thread
