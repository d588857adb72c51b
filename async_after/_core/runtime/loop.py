"""The event loop of this thread, if one runs, and coroutines that none will run."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from types import CoroutineType
from typing import Any


def running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def is_unstarted(returned: Any) -> bool:
    """Whether it is a coroutine that nobody has begun."""
    kind = type(returned)
    return kind is _AnextType or (
        kind is CoroutineType and inspect.getcoroutinestate(returned) == inspect.CORO_CREATED
    )


async def _generator() -> AsyncIterator[None]:
    yield


_anext: Any = anext(_generator())
_AnextType = type(_anext)
_anext.close()
