"""The event loop of this thread, if one runs."""

import asyncio


def running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def is_in_loop() -> bool:
    return running_loop() is not None
