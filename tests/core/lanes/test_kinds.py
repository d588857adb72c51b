"""Each kind of callable in each lane: its result, its state, and where it ran."""

import asyncio
import functools
import operator
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from async_after import Callback, CallbackState, after_response, exchange_scope
from async_after.wsgi import AfterResponseMiddleware

from ...first_hour import KINDS, LANES
from ..conftest import DEADLINE, MakeRunner, loop_exchange, responding

Shape = Literal["plain", "coroutine", "returns a coroutine", "async_to_sync", "sync_to_async"]
Seen = tuple[str, threading.Thread, asyncio.AbstractEventLoop | None]
"""What was passed, and where the callable itself ran."""


def look(value: str) -> Seen:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    return value, threading.current_thread(), loop


async def alook(value: str) -> Seen:
    await asyncio.sleep(0)  # one that never suspends hides much
    return look(value)


class Methods:
    def look(self, value: str) -> Seen:
        return look(value)

    async def alook(self, value: str) -> Seen:
        return await alook(value)


class Looks:
    def __call__(self, value: str) -> Seen:
        return look(value)


class AsyncLooks:
    async def __call__(self, value: str) -> Seen:
        return await alook(value)


class Made(tuple[Any, ...]):
    """Calling the class looks."""

    def __new__(cls, value: str) -> "Made":
        return super().__new__(cls, look(value))


def wrapped(function: Callable[[str], Any]) -> Callable[[str], Any]:
    @functools.wraps(function)
    def wrapper(value: str) -> Any:
        return function(value)

    return wrapper


def awrapped(function: Callable[[str], Awaitable[Any]]) -> Callable[[str], Awaitable[Any]]:
    @functools.wraps(function)
    async def wrapper(value: str) -> Any:
        return await function(value)

    return wrapper


_call: Any = operator.call  # typeshed gives partial() no way to call it

CALLABLES: dict[str, tuple[Callable[[str], Any], Shape]] = {
    "function": (look, "plain"),
    "lambda": (lambda value: look(value), "plain"),
    "partial": (functools.partial(functools.partial(look)), "plain"),
    "method": (Methods().look, "plain"),
    "callable object": (Looks(), "plain"),
    "class": (Made, "plain"),
    "builtin": (functools.partial(_call, look), "plain"),
    "wrapped": (wrapped(look), "plain"),
    "returns a coroutine": (lambda value: alook(value), "returns a coroutine"),
    # functools.wraps makes no coroutine function of a plain one.
    "wrapped by a plain function": (wrapped(alook), "returns a coroutine"),
    "async_to_sync": (async_to_sync(alook), "async_to_sync"),
    "coroutine function": (alook, "coroutine"),
    "partial of a coroutine function": (functools.partial(alook), "coroutine"),
    "async method": (Methods().alook, "coroutine"),
    "async callable object": (AsyncLooks(), "coroutine"),
    "partial of an async callable object": (functools.partial(AsyncLooks()), "coroutine"),
    "wrapped coroutine function": (awrapped(alook), "coroutine"),
    "sync_to_async": (sync_to_async(look), "sync_to_async"),
}

HERE, HERE_IN_LOOP = "this thread", "this loop"
WORKER, BACKGROUND = "a worker of the runner's", "the background loop"
SENSITIVE, OWN_LOOP = "the thread of thread-sensitive calls", "a loop made for it"
ASGIREFS = f"{HERE_IN_LOOP} or {OWN_LOOP}"
"""As asgiref will have it: the oldest makes a loop, the newest finds ours."""
REFUSED = "refused"

WHERE: dict[str, dict[Shape, str]] = {
    "loop": {
        "plain": REFUSED,
        "coroutine": HERE_IN_LOOP,
        "returns a coroutine": REFUSED,
        "async_to_sync": REFUSED,
        "sync_to_async": WORKER,
    },
    "threads": {
        "plain": WORKER,
        "coroutine": REFUSED,
        # The call is a worker's, the coroutine the loop's.
        "returns a coroutine": HERE_IN_LOOP,
        "async_to_sync": OWN_LOOP,
        "sync_to_async": REFUSED,
    },
    "background": {
        "plain": REFUSED,
        "coroutine": BACKGROUND,
        "returns a coroutine": REFUSED,
        "async_to_sync": REFUSED,
        "sync_to_async": WORKER,
    },
    "scope": {
        "plain": HERE,
        "coroutine": OWN_LOOP,
        "returns a coroutine": OWN_LOOP,
        "async_to_sync": OWN_LOOP,
        "sync_to_async": HERE,
    },
    "async scope": {
        "plain": SENSITIVE,
        "coroutine": HERE_IN_LOOP,
        "returns a coroutine": HERE_IN_LOOP,
        "async_to_sync": ASGIREFS,
        "sync_to_async": SENSITIVE,
    },
    "inline under WSGI": {
        "plain": HERE,
        "coroutine": BACKGROUND,
        "returns a coroutine": BACKGROUND,
        "async_to_sync": OWN_LOOP,
        "sync_to_async": WORKER,
    },
}


def place(thread: threading.Thread, loop: asyncio.AbstractEventLoop | None, test: Seen) -> str:
    """``test``: where the test itself runs."""
    if thread is test[1]:
        return HERE if loop is None else HERE_IN_LOOP if loop is test[2] else "another loop here"
    if thread.name.startswith("async_after background loop"):
        return BACKGROUND if loop is not None else thread.name
    if thread.name.startswith("async_after worker"):
        return WORKER if loop is None else "a loop in a worker"
    return SENSITIVE if loop is None else OWN_LOOP


Register = Callable[[], Callback[Any]]


async def through_loop(register: Register, make_runner: MakeRunner) -> Callback[Any]:
    """A response on the test's loop."""
    runner = make_runner()
    with responding(loop_exchange(runner)):
        callback = register()
    await runner.drain(DEADLINE)
    await runner.aclose()
    return callback


async def in_scope(register: Register, make_runner: MakeRunner) -> Callback[Any]:
    async with exchange_scope():
        return register()


def in_plain_scope(register: Register, make_runner: MakeRunner) -> Callback[Any]:
    with exchange_scope():
        return register()


def inline_under_wsgi(register: Register, make_runner: MakeRunner) -> Callback[Any]:
    registered: list[Callback[Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        registered.append(register())
        start_response("200 OK", [])
        return [b"body"]

    served = AfterResponseMiddleware(app, runner=make_runner(), lane="inline")
    body: Any = served({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda status, headers: print)
    assert b"".join(body) == b"body"
    assert registered[0].state is CallbackState.PENDING
    body.close()
    return registered[0]


async def run(lane: str, register: Register, make_runner: MakeRunner) -> Callback[Any]:
    if lane == "async scope":
        return await in_scope(register, make_runner)
    return await through_loop(register, make_runner)


PLAIN = {"scope": in_plain_scope, "inline under WSGI": inline_under_wsgi}
"""The lanes in which no loop runs."""


def registrar_of(lane: str) -> Any:
    """The other lanes are those of whoever registers."""
    registrar: Any = after_response
    return registrar.using(lane=lane) if lane in ("loop", "threads", "background") else registrar


def run_to_its_end(lane: str, register: Register, make_runner: MakeRunner) -> Callback[Any]:
    if lane in PLAIN:
        return PLAIN[lane](register, make_runner)
    return asyncio.run(run(lane, register, make_runner))


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_in_each_lane(kind: str, lane: str, make_runner: MakeRunner) -> None:
    function, shape = CALLABLES[kind]
    expected = WHERE[lane][shape]
    registrar = registrar_of(lane)

    def register() -> Callback[Any]:
        if expected is not REFUSED:
            registered: Callback[Any] = registrar(function, "passed")
            return registered
        with pytest.raises(TypeError, match=f'lane="{lane}" cannot run the'):
            registrar(function, "passed")
        return after_response(int)  # the exchange takes others still

    async def arun() -> tuple[Callback[Any], Seen]:
        return await run(lane, register, make_runner), look("the test")

    if lane in PLAIN:
        callback, test = PLAIN[lane](register, make_runner), look("the test")
    else:
        callback, test = asyncio.run(arun())
    assert callback.state is CallbackState.SUCCEEDED, callback
    if expected is REFUSED:
        assert callback.result() == 0
        return
    value, thread, loop = callback.result()
    assert value == "passed"
    assert place(thread, loop, test) in expected.split(" or ")


def test_all_kinds_and_lanes_have_their_line() -> None:
    assert [*CALLABLES] == [*KINDS]
    assert [*WHERE] == [*LANES]
    shapes = {shape for _, shape in CALLABLES.values()}
    assert all({*line} == shapes for line in WHERE.values())
