"""The latch: opens once, for coroutines of any loop and for threads."""

import asyncio
import gc
import threading
import weakref
from contextvars import ContextVar

from async_after._core.runtime import Latch

from ..conftest import DEADLINE


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


class Kept:
    """Something that can be watched."""


_kept: ContextVar[Kept] = ContextVar("kept")


async def test_what_has_waited_is_not_kept() -> None:
    """The loop keeps a cancelled timer, with its context, until it would have been due."""
    latch = Latch()
    # Behind another one, or the loop drops it at once.
    earlier = asyncio.get_running_loop().call_later(DEADLINE / 2, print)

    async def waits() -> weakref.ref[Kept]:
        kept = Kept()
        _kept.set(kept)
        assert await latch.wait(DEADLINE)
        return weakref.ref(kept)

    waiting = asyncio.create_task(waits())
    await asyncio.sleep(0)
    latch.open()
    found = await waiting
    del waiting
    await asyncio.sleep(0)  # the loop drops the handle that has run
    gc.collect()
    assert found() is None
    earlier.cancel()
