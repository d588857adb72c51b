"""A signal handler raises SystemExit in the server's thread, while lane "inline" waits there."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from async_after import Callback, CallbackState, Runner, after_response
from async_after.wsgi import AfterResponseMiddleware

from .wsgi_client import (
    DEADLINE,
    Call,
    Environ,
    StartResponse,
    drain,
    ended,
    in_thread,
    joined,
    new_runner,
    wait,
)

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")


WAITS = ("wait", "wait_in_thread")


class Abort(SystemExit):
    """gunicorn's worker at its timeout: ``sys.exit(1)`` in the handler."""


def is_waiting() -> bool:
    """Whether the server's thread, this test's, stands in a wait, of ours or of its callback.

    Anywhere else the handler's exception may come as a lock has just been taken (asgiref's of
    ``connections``, say): it would stay taken, and all that follows would hang."""
    main, tops = threading.main_thread().ident or 0, list[tuple[Any, int]]()
    for _ in range(5):
        frame = sys._current_frames()[main]
        tops.append((frame, frame.f_lasti))
        time.sleep(0.01)
    return len({*tops}) == 1 and frame.f_code.co_name in WAITS


@contextmanager
def aborted_at(entered: threading.Event) -> Iterator[None]:
    """The signal comes when the callback has begun."""
    seen, is_over = threading.Event(), threading.Event()

    def abort(number: int, frame: Any) -> None:
        if not seen.is_set():
            seen.set()
            raise Abort(1)

    def send() -> None:
        wait(entered)
        deadline = time.monotonic() + DEADLINE
        while not is_waiting() and not is_over.is_set() and time.monotonic() < deadline:
            seen.wait(0.01)
        if not is_over.is_set():
            os.kill(os.getpid(), signal.SIGUSR1)
            wait(seen)

    before = signal.signal(signal.SIGUSR1, abort)
    sender = in_thread(send, name="sender")
    try:
        yield
    finally:
        # Nothing is sent to this process any more: the handler that was before ends it.
        is_over.set()
        entered.set()
        joined(sender)
        signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def runner() -> Iterator[Runner]:
    with new_runner() as runner:
        yield runner


KINDS = ["plain", "coroutine", "concurrent", "concurrent coroutine"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_leaves_close_and_nothing_is_lost(kind: str, runner: Runner) -> None:
    entered, go_on = threading.Event(), threading.Event()
    callbacks: list[Callback[Any]] = []
    order: list[str] = []

    def held() -> None:
        entered.set()
        assert go_on.wait(DEADLINE)
        order.append("held")

    async def aheld() -> None:
        entered.set()
        assert await asyncio.to_thread(go_on.wait, DEADLINE)
        order.append("held")

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        register = after_response.using(concurrent=kind.startswith("concurrent"))
        callbacks.append(register(aheld if "coroutine" in kind else held))
        callbacks.append(after_response(order.append, "second"))
        callbacks.append(after_response(order.append, "third"))
        start_response("200 OK", [])
        return [b"x"]

    call = Call(AfterResponseMiddleware(app, runner=runner, lane="inline")).begin().pull()
    with aborted_at(entered), pytest.raises(Abort):
        call.close()
    go_on.set()
    ended(*callbacks)
    drain(runner)
    states = [callback.state for callback in callbacks]
    if kind == "plain":
        # It is the one that was interrupted.
        assert states == [CallbackState.FAILED, *[CallbackState.SUCCEEDED] * 2]
        assert isinstance(callbacks[0].exception(), Abort)
        assert order == ["second", "third"]
    else:
        assert states == [CallbackState.SUCCEEDED] * 3
        assert sorted(order) == ["held", "second", "third"]
        assert order.index("second") < order.index("third")
    if kind == "coroutine":
        assert order == ["held", "second", "third"]  # promise 6
    statistics = runner.statistics()
    assert statistics.pending == statistics.running == 0
