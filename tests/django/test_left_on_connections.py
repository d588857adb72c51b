"""Promise 11, no_leaks: what a callback leaves on a connection reaches no other, nor a request.

And what the program's own receivers of ``connection_created`` leave there costs no connection.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.db.backends.signals import connection_created
from django.db.backends.sqlite3.base import DatabaseWrapper

from async_after import Runner, after_response
from async_after.wsgi import AfterResponseMiddleware
from tests.core.conftest import DEADLINE, loop_exchange, responding, thread_exchange

Work = Callable[[], Any]
Lane = Callable[[Runner, Work], Any]


# The lanes: each runs one callback to its end.


async def on_loop(runner: Runner, work: Work, **options: Any) -> None:
    with responding(loop_exchange(runner)):
        after_response.using(**options)(work)
    await runner.drain(DEADLINE)


def threads(runner: Runner, work: Work) -> None:
    asyncio.run(on_loop(runner, work))


def through_loop(runner: Runner, work: Work) -> None:
    asyncio.run(on_loop(runner, sync_to_async(work)))


def concurrent(runner: Runner, work: Work) -> None:
    asyncio.run(on_loop(runner, work, concurrent=True))


def background(runner: Runner, work: Work) -> None:
    asyncio.run(on_loop(runner, sync_to_async(work), lane="background"))


def wsgi_threads(runner: Runner, work: Work) -> None:
    with responding(thread_exchange(runner)):
        after_response(work)
    asyncio.run(runner.drain(DEADLINE))


def wsgi_inline(runner: Runner, work: Work) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        after_response(work)
        start_response("200 OK", [])
        return [b"body"]

    served = AfterResponseMiddleware(app, runner=runner, lane="inline")
    body: Any = served({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda status, headers: print)
    list(body)
    body.close()


LANES = pytest.mark.parametrize(
    "lane", [threads, through_loop, concurrent, background, wsgi_threads, wsgi_inline]
)


# What is left.


class Refuses:
    """What stands there has code of its own."""

    def __eq__(self, other: object) -> bool:
        raise LookupError

    def __ne__(self, other: object) -> bool:
        raise LookupError


def sets(name: str, value: Any = "u1") -> Work:
    return lambda: setattr(connection, name, value)


def wraps() -> None:
    connection.execute_wrappers.append(lambda execute, *rest: execute(*rest))


def debugs() -> None:
    connection.force_debug_cursor = True


def sets_before_it_connects() -> None:
    connection.close()
    sets("tenant")()
    connection.ensure_connection()


def takes_over() -> None:
    """What a receiver has set when it was connected."""
    connection.ensure_connection()
    sets("given")()


def wraps_before_it_connects() -> None:
    connection.close()
    wraps()
    connection.ensure_connection()


LEFT: dict[str, Work] = {
    "an attribute": sets("tenant"),
    "one that has a default": sets("default_tenant"),
    "one that cannot be compared": sets("tenant", Refuses()),
    "one set before it connects": sets_before_it_connects,
    "one that a receiver sets, too": takes_over,
    "an execute wrapper": wraps,
    "one appended before it connects": wraps_before_it_connects,
    "the debug cursor": debugs,
}


def state() -> dict[str, Any]:
    return {
        "tenant": getattr(connection, "tenant", None),
        "default_tenant": getattr(connection, "default_tenant", None),
        "given": getattr(connection, "given", None) == "u1",
        "wrappers": [each for each in connection.execute_wrappers if each is not given_wrapper],
        "debug": connection.force_debug_cursor,
    }


def given_wrapper(execute: Any, *rest: Any) -> Any:
    return execute(*rest)


def gives(*, connection: Any, **more: Any) -> None:
    connection.given = object()
    if given_wrapper not in connection.execute_wrappers:
        connection.execute_wrappers.append(given_wrapper)


@contextmanager
def receiving(receiver: Any) -> Iterator[None]:
    connection_created.connect(receiver)
    try:
        yield
    finally:
        connection_created.disconnect(receiver)


@pytest.fixture
def runner() -> Iterator[Runner]:
    """All meet in one thread."""
    runner = Runner(max_threads=1)
    yield runner
    asyncio.run(runner.aclose())


def in_thread(work: Work) -> None:
    """A server's thread: not that of the test's database."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join(DEADLINE)
    if raised:
        raise raised[0]


@LANES
@pytest.mark.parametrize("what", LEFT)
@pytest.mark.parametrize("has_receiver", [False, True])
def test_it_does_not_reach_the_next(
    lane: Lane, what: str, has_receiver: bool, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DatabaseWrapper, "default_tenant", None, raising=False)
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)
    seen: list[dict[str, Any]] = []

    def look() -> None:
        connection.ensure_connection()
        seen.append(state())

    def serve() -> None:
        lane(runner, look)
        lane(runner, LEFT[what])
        lane(runner, look)
        if lane is wsgi_inline:  # and the next request of this thread
            look()

    if has_receiver:
        with receiving(gives):
            in_thread(serve)
    else:
        in_thread(serve)
    first, *others = seen
    assert others == [first] * len(others)
    assert len(others) == (2 if lane is wsgi_inline else 1)


@LANES
@pytest.mark.parametrize("comes", ["first", "late"])
def test_what_receivers_give_costs_no_connection(
    lane: Lane, comes: str, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)
    seen: list[Any] = []

    def look() -> None:
        connection.ensure_connection()
        seen.append(connection.connection)

    def serve() -> None:
        if comes == "late":  # behind ours, which comes with the first callback
            lane(runner, lambda: None)
        with receiving(gives):
            for _ in range(4):
                lane(runner, look)

    in_thread(serve)
    assert len(seen) == 4
    # A receiver that comes behind ours may cost one.
    assert seen[1] is seen[2] is seen[3]


def test_what_the_server_has_set_is_kept(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A middleware, say: inline, in the same thread."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)
    seen: list[Any] = []

    def serve() -> None:
        connection.ensure_connection()
        sets("tenant", "the server's")()
        wsgi_inline(runner, connection.ensure_connection)
        seen.extend([connection.connection, getattr(connection, "tenant", None)])
        wsgi_inline(runner, lambda: None)
        assert connection.connection is seen[0]

    in_thread(serve)
    assert seen[1] == "the server's"
