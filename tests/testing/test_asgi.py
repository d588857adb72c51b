"""The testing tools around an ASGI app: httpx in process, and a server in another thread."""

import asyncio
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import async_after
from async_after import (
    CallbackState,
    Completion,
    Outcome,
    Runner,
    aafter_response,
    after_response,
    exchange_scope,
)
from async_after._core.registration import test_hook
from async_after.asgi import AfterResponseMiddleware
from async_after.testing import (
    capture_after_response,
    raise_callback_errors,
    suppress_after_response,
)

from ..core.conftest import DEADLINE, MakeRunner

httpx = pytest.importorskip("httpx", reason="httpx.ASGITransport is one of the clients")

ran: list[object] = []


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    ran.clear()
    yield
    assert test_hook.interceptors == ()


def note(outcome: Outcome, value: str) -> None:
    ran.append((value, outcome.status))


async def anote(outcome: Outcome, value: str) -> asyncio.AbstractEventLoop:
    ran.append((value, outcome.status))
    return asyncio.get_running_loop()


def fail() -> None:
    raise ValueError("the callback's")


async def afail() -> None:
    await asyncio.sleep(0.01)
    fail()


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/fails":
        after_response(fail)
        after_response(afail)
    else:
        after_response.using(takes_outcome=True)(note, "plain")
        await aafter_response.using(takes_outcome=True)(anote, "coroutine")
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture(params=["held", "released"])
async def client(request: pytest.FixtureRequest, make_runner: MakeRunner) -> AsyncIterator[Any]:
    """``released``: as below a client that speaks lifespan, the request does not
    wait for its callbacks."""
    wrapped = AfterResponseMiddleware(app, runner=make_runner(), hold=request.param == "held")
    transport = httpx.ASGITransport(app=wrapped)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_captured(client: Any) -> None:
    with capture_after_response() as captured:
        response = await client.get("/")
    assert response.text == "done"
    assert [each.args for each in captured] == [("plain",), ("coroutine",)]
    assert [each.callback.state for each in captured] == [CallbackState.SKIPPED] * 2
    assert ran == []


async def test_executed(client: Any) -> None:
    async with capture_after_response(execute=True) as captured:
        await client.get("/")
        assert ran == []
    assert ran == [("plain", 201), ("coroutine", 201)]
    assert captured[1].callback.result() is asyncio.get_running_loop()
    outcome = captured[0].callback.outcome
    assert outcome is not None
    assert outcome.completion is Completion.SENT


async def test_executed_when_a_with_ends_in_the_coroutine(client: Any) -> None:
    with capture_after_response(execute=True):
        await client.get("/")
    assert ran == [("plain", 201), ("coroutine", 201)]


async def test_their_errors(client: Any) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with capture_after_response(execute=True):
            await client.get("/fails")
    assert [str(error) for error in caught.value.exceptions] == ["the callback's"] * 2
    assert caught.value.exceptions[0].__notes__ == [
        f"In callback {__name__}.fail of GET /fails (201)."
    ]


async def test_suppressed(client: Any) -> None:
    with suppress_after_response():
        await client.get("/fails")
        await client.get("/")
    assert ran == []


async def test_raised(client: Any) -> None:
    async with raise_callback_errors():
        await client.get("/")
    assert ran == [("plain", 201), ("coroutine", 201)]
    with pytest.raises(ExceptionGroup) as caught:
        async with raise_callback_errors():
            await client.get("/fails")
    assert [str(error) for error in caught.value.exceptions] == ["the callback's"] * 2


async def test_what_the_set_up_of_the_app_registers_is_not_held(runner: Runner) -> None:
    """It is no business of the code that is tested; but its errors are raised."""
    wrapped = AfterResponseMiddleware(app, runner=runner, callbacks=[ran.append])
    failing = AfterResponseMiddleware(app, runner=runner, callbacks=[lambda outcome: fail()])

    async def get(application: Any) -> None:
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.get("/")

    with capture_after_response() as captured:
        await get(wrapped)
    assert len(captured) == 2
    with suppress_after_response():
        await get(wrapped)
    assert [type(each) for each in ran] == [Outcome] * 2
    with pytest.raises(ValueError, match="the callback's"):
        async with raise_callback_errors():
            await get(failing)


async def test_instruments_of_its_runner_hear_of_an_executed_one(make_runner: MakeRunner) -> None:
    class Heard:
        def __init__(self) -> None:
            self.events: list[str] = []

        def registered(self, callback: object) -> None:
            self.events.append("registered")

        def started(self, callback: object) -> None:
            self.events.append("started")

        def ended(self, callback: object) -> None:
            self.events.append("ended")

    heard = Heard()
    wrapped = AfterResponseMiddleware(app, runner=make_runner(instruments=[heard]))
    transport = httpx.ASGITransport(app=wrapped)
    async with (
        capture_after_response(execute=True),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await client.get("/")
    assert heard.events == ["registered"] * 2 + ["started", "ended"] * 2


# A server in another thread.


@pytest.fixture
def url(runner: Runner) -> Iterator[str]:
    uvicorn = pytest.importorskip("uvicorn", reason="a server for another thread")
    wrapped = AfterResponseMiddleware(app, runner=runner)
    config = uvicorn.Config(wrapped, port=0, log_level="error", loop="asyncio", lifespan="on")
    server = uvicorn.Server(config)
    started = threading.Event()
    startup = server.startup

    async def start(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = start
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(DEADLINE)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE)
        assert not thread.is_alive()


def get(url: str) -> None:
    with urllib.request.urlopen(url, timeout=DEADLINE) as response:
        assert response.read() == b"done"


def test_a_server_in_another_thread(url: str) -> None:
    for _ in range(20):
        with capture_after_response(execute=True) as captured:
            get(f"{url}/")
            assert len(captured) == 2
        assert ran == [("plain", 201), ("coroutine", 201)]
        ran.clear()
    with suppress_after_response():
        get(f"{url}/")
    with raise_callback_errors():
        get(f"{url}/")
    assert sorted(map(str, ran)) == ["('coroutine', 201)", "('plain', 201)"]
    with pytest.raises(ExceptionGroup), raise_callback_errors():
        get(f"{url}/fails")


def test_django_is_not_loaded() -> None:
    """Neither by the import nor by the tools; and without tests no tool is."""
    code = (
        "import sys\n"
        "from async_after import after_response, asgi, exchange_scope\n"
        "assert 'async_after.testing' not in sys.modules\n"
        "from async_after import testing\n"
        "with testing.raise_callback_errors(), exchange_scope(): after_response(int)\n"
        "with testing.capture_after_response(execute=True) as captured, exchange_scope():\n"
        "    after_response(int)\n"
        "assert captured[0].callback.result() == 0\n"
        "print(*(name for name in sys.modules if name.partition('.')[0] == 'django'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(async_after.__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


def test_a_scope_around_the_client_does_not_matter(url: str) -> None:
    with exchange_scope(), capture_after_response(execute=True):
        get(f"{url}/")
    assert ran == [("plain", 201), ("coroutine", 201)]
