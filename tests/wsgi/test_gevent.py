"""gevent: callbacks in greenlets, async ones on a loop in a native thread.

A loop in a greenlet would make ``asyncio.get_running_loop()`` answer in
every greenlet, and Django would refuse the ORM in all views.
"""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ..servers.harness import Server, wait_until
from ..servers.launch import Config

WRAPPED = Config("tests.wsgi.green.site:application", server="gunicorn-gevent")
ALONE = Config(WRAPPED.app, server="gunicorn-gevent", env=(("GREEN_MIDDLEWARE", "1"),))
CONFIGS = [
    config.settings(WSGI_LANE=lane) for config in (WRAPPED, ALONE) for lane in ("threads", "inline")
]


@pytest.fixture(
    scope="module", params=CONFIGS, ids=["wrapped", "wrapped-inline", "alone", "alone-inline"]
)
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    server_processes: None,
) -> Iterator[Server]:
    server = Server(request.param, tmp_path_factory.mktemp("gevent"))
    yield server
    server.stop()


def is_inline(server: Server) -> bool:
    return "inline" in str(server.config.env)


def asked(server: Server) -> dict[str, object]:
    response = server.get(f"/asks/{server.new_ident()}", headers=("Connection: close",))
    assert response.status == 200, server.report()
    found: dict[str, object] = json.loads(response.body)
    return found


def test_the_orm_in_views_while_async_callbacks_sleep(server: Server) -> None:
    idents = [server.new_ident() for _ in range(3)]
    clients = [server.connect() for _ in idents]
    for client, ident in zip(clients, idents, strict=True):
        assert client.get(f"/holds/{ident}").body == b"held"
        server.wait(ident, "start")
    threads = {server.events(ident, "start")[0]["thread"] for ident in idents}
    assert len(threads) == 1, threads
    for _ in range(5):
        assert asked(server) == {"count": 1, "a loop runs": False}
    for ident in idents:
        assert not server.events(ident, "end")
        server.release(ident)
    for client, ident in zip(clients, idents, strict=True):
        server.wait(ident, "end")
        client.close()


def test_the_orm_in_plain_callbacks(server: Server) -> None:
    ident = server.new_ident()
    assert server.get(f"/writes/{ident}").body == b"ok"
    (event,) = server.wait(ident, "end")
    assert event["count"] == 1


def test_the_async_orm_in_callbacks_is_refused(server: Server) -> None:
    """With an error that says why; the callbacks behind it run."""
    ident = server.new_ident()
    assert server.get(f"/async-orm/{ident}").body == b"ok"
    server.wait(ident, "next")
    wait_until(
        lambda: f"site.awrite of GET /async-orm/{ident} (200) failed" in server.stderr(),
        server.report,
    )
    assert "under gevent, an async callback cannot make thread-sensitive calls" in server.stderr()


def test_order_and_more_of_them(server: Server) -> None:
    ident = server.new_ident()
    assert server.get(f"/chain/{ident}").body == b"ok"
    events = server.wait(ident, "step", 9)
    numbers = [event["n"] for event in events]
    concurrent = numbers.pop(numbers.index(7))
    assert concurrent == 7
    assert numbers == [0, 1, 2, 3, 4, 5, 6, 8]
    (resolved,) = server.wait(ident, "resolved")
    assert resolved["n"] > 0


def test_resolving_names_leaves_no_thread(server: Server) -> None:
    ident = server.new_ident()
    assert server.get(f"/resolves/{ident}").body == b"ok"
    (event,) = server.wait(ident, "threads")
    assert event["n"] < 10


@pytest.mark.usefixtures("server_processes")
@pytest.mark.parametrize("lane", ["threads", "inline"])
def test_what_starts_in_the_native_thread_goes_home(
    lane: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A worker that is started there would be a greenlet of a hub that nobody runs."""
    config = WRAPPED.settings(WSGI_LANE=lane, LIMIT=1)
    server = Server(config, tmp_path_factory.mktemp("gevent"))
    try:
        for _ in range(3):
            first, second = server.new_ident(), server.new_ident()
            assert server.get(f"/elsewhere/{first}").body == b"ok"
            server.wait(first, "late")
            server.wait(first, "step")
            assert server.get(f"/waits/{second}").body == b"ok"
            for event in ("in scope", "step", "in async scope", "end", "waited"):
                server.wait(second, event)
        assert asked(server) == {"count": 1, "a loop runs": False}
    finally:
        server.stop()


def test_the_language_is_kept(server: Server) -> None:
    ident = server.new_ident()
    assert server.get(f"/french/{ident}").body == b"en-us"
    assert [event["language"] for event in server.wait(ident, "language", 2)] == ["fr", "fr"]


def test_a_timeout(server: Server) -> None:
    ident = server.new_ident()
    assert server.get(f"/too-long/{ident}").body == b"ok"
    server.wait(ident, "next")
    assert server.order(ident) == ["start", "next"]
    wait_until(
        lambda: f"site.hold of GET /too-long/{ident} (200) timed out" in server.stderr(),
        server.report,
    )


@pytest.mark.usefixtures("server_processes")
@pytest.mark.parametrize("config", CONFIGS[:2], ids=["threads", "inline"])
def test_sigterm(config: Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What runs and what waits is drained at the worker's exit."""
    server = Server(config, tmp_path_factory.mktemp("gevent"))
    try:
        idents = [server.new_ident() for _ in range(3)]
        clients = [server.connect() for _ in idents]
        for client, ident in zip(clients, idents, strict=True):
            assert client.get(f"/holds/{ident}").body == b"held"
            server.wait(ident, "start")
        server.terminate()
        for client, ident in zip(clients, idents, strict=True):
            server.release(ident)
            client.close()
        server.wait_for_exit()
        for ident in idents:
            server.wait(ident, "end")
        assert "dropped" not in server.stderr()
    finally:
        server.stop()


NO_FILE_LEFT = """
from gevent import monkey
monkey.patch_all()
import gevent
from async_after import after_response, get_runner
from async_after._core.runtime import gevent as runtime
from async_after.wsgi import AfterResponseMiddleware

async def callback(): pass

def site(environ, start_response):
    after_response(callback)
    start_response("200 OK", [])
    return [b""]

def ask():
    body = AfterResponseMiddleware(site)({"REQUEST_METHOD": "GET"}, lambda *args: None)
    list(body)
    body.close()

def ended():
    statistics = get_runner().statistics()
    return statistics.dropped, statistics.succeeded

def fail():
    raise OSError("no file left")

native_loop, runtime.NativeLoop = runtime.NativeLoop, fail
for expected in (1, 0), (1, 1):
    gevent.spawn(ask)
    while ended() != expected:
        gevent.sleep(0.01)
    runtime.NativeLoop = native_loop
"""


def test_no_file_is_left_for_the_loop() -> None:
    """The callback is lost, and named; the hub goes on."""
    done = subprocess.run(
        [sys.executable, "-c", NO_FILE_LEFT], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert "cannot be started: no file left" in done.stderr
