"""What the callbacks of ``soak`` do.

Those that are to be cancelled wait for an event: a cancelled asyncio.sleep()
stays in the loop's heap for its time, and its context with it.
"""

import asyncio
import gc
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from async_after import Outcome

from .ledger import Note, counted, ledger


class Fatal(BaseException):
    pass


EXCEPTIONS: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: ValueError("soak"),
    "BaseException": lambda: Fatal("soak"),
    "SystemExit": lambda: SystemExit(3),
    "CancelledError": lambda: asyncio.CancelledError("by hand"),
    "ExceptionGroup": lambda: ExceptionGroup("soak", [ValueError("a"), KeyError("b")]),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("soak", [SystemExit(3), Fatal("b")]),
    "StopIteration": lambda: StopIteration("soak"),
    "StopAsyncIteration": lambda: StopAsyncIteration("soak"),
    "GeneratorExit": lambda: GeneratorExit("soak"),
}


def _a_while() -> float:
    return random.uniform(0.001, 0.02)


@counted
async def sleep_async(note: Note) -> int:
    await asyncio.sleep(_a_while())
    return 1


@counted
def sleep_sync(note: Note) -> int:
    time.sleep(_a_while())
    return 1


@counted
async def at_once(note: Note) -> None:
    pass


@counted
async def block(note: Note) -> None:
    time.sleep(random.choice([0.02, 0.12]))  # noqa: ASYNC251 -- what the lane is for


def returns_coroutine(note: Note) -> Any:
    return sleep_async(note)


@counted
async def see(outcome: Outcome, note: Note) -> None:
    if outcome.duration < 0 or outcome.method is None:
        raise AssertionError(f"not sealed: {outcome!r}")


@counted
async def fail_async(note: Note, name: str) -> None:
    await asyncio.sleep(0)
    raise EXCEPTIONS[name]()


@counted
def fail_sync(note: Note, name: str) -> None:
    raise EXCEPTIONS[name]()


@counted
async def cancel_itself(note: Note) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.Event().wait()


@counted
async def cancel_itself_and_return(note: Note) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@counted
async def show_task(note: Note, tasks: list["asyncio.Task[Any]"]) -> None:
    task = asyncio.current_task()
    assert task is not None
    tasks.append(task)
    await asyncio.Event().wait()


@counted
async def cancel_task(note: Note, tasks: list["asyncio.Task[Any]"]) -> None:
    # Not asyncio.timeout: see above.
    until = time.monotonic() + 30
    while not tasks and time.monotonic() < until:  # noqa: ASYNC110 -- it may be on another loop
        await asyncio.sleep(0.005)
    task = tasks.pop()
    task.get_loop().call_soon_threadsafe(task.cancel)


@counted
async def sleep_long(note: Note) -> None:
    await asyncio.Event().wait()


@counted
async def sleep_stubbornly(note: Note) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0.01)


@counted
def sleep_overdue(note: Note) -> None:
    time.sleep(0.6)


def _dive(depth: int) -> int:
    return _dive(depth + 1) + 1


async def _adive(depth: int) -> int:
    return await _adive(depth + 1) + 1


@counted
def recurse_sync(note: Note) -> None:
    with _uncollected():
        _dive(0)


@counted
async def recurse_async(note: Note) -> None:
    with _uncollected():
        await _adive(0)


@contextmanager
def _uncollected() -> Iterator[None]:
    """A collection at that depth cannot run a finalizer, and the interpreter complains of it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@counted
async def register_more_async(note: Note, count: int) -> None:
    _register_more(count)


@counted
def register_more_sync(note: Note, count: int) -> None:
    _register_more(count)


def _register_more(count: int) -> None:
    for number in range(count):
        ledger.add("registered by a callback", (sleep_async, at_once, sleep_sync)[number % 3])


@counted
async def wait_in_vain(note: Note, other: Any) -> None:
    try:
        await other.wait(0.005)
    except TimeoutError:
        pass
    await other.wait()


@counted
async def wait_and_be_cancelled(note: Note, other: Any) -> None:
    waiters = [asyncio.create_task(other.wait()) for _ in range(3)]
    await asyncio.sleep(0.002)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)


@counted
async def cancel_other(note: Note, other: Any) -> None:
    await asyncio.sleep(0.02)
    other.cancel()


def _session() -> dict[str, Any]:
    return {"session_key": uuid.uuid4().hex, "session_data": "", "expire_date": datetime.now(UTC)}


@counted
def insert_sync(note: Note) -> None:
    from django.contrib.sessions.models import Session

    Session.objects.create(**_session())


@counted
async def insert_async(note: Note) -> None:
    from django.contrib.sessions.models import Session

    await Session.objects.acreate(**_session())


@counted
async def last_async(note: Note) -> None:
    await asyncio.sleep(1)


@counted
def last_sync(note: Note) -> None:
    time.sleep(1)


@counted
async def never_async(note: Note) -> None:
    await asyncio.Event().wait()


@counted
def never_sync(note: Note) -> None:
    time.sleep(60)
