"""Whatever is raised, wherever it is raised: it reaches the server as it is, and
the callbacks run, behind the WSGI wrapper."""

import asyncio
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from async_after import Completion, Runner, after_response
from async_after.wsgi import AfterResponseMiddleware

from .wsgi_client import App, Call, Environ, Seen, StartResponse, drain, new_runner

TEXT = [("Content-Type", "text/plain")]
ERRORS = [LookupError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]


class Body:
    """Raises in its first or second step, at its end, or in ``close()``."""

    def __init__(self, where: str, error: BaseException) -> None:
        self._where = where
        self._error = error
        self._steps = 0
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        if self._where == "iter":
            raise self._error
        return self

    def __next__(self) -> bytes:
        self._steps += 1
        if self._where == f"step {self._steps}":
            raise self._error
        if self._steps > 2:
            raise StopIteration
        return b"part"

    def close(self) -> None:
        self.closed += 1
        if self._where == "close":
            raise self._error


def raising(where: str, error: BaseException, bodies: list[Body]) -> App:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        after_response.using(takes_outcome=True)(environ["test.register"])
        if where == "before":
            raise error
        start_response("200 OK", [*TEXT])
        if where == "after":
            raise error
        bodies.append(Body(where, error))
        return bodies[0]

    return app


PLACES = {
    "before": (Completion.FAILED, None, 0),
    "after": (Completion.FAILED, 200, 0),
    "iter": (Completion.FAILED, 200, 0),
    "step 1": (Completion.FAILED, 200, 0),
    "step 2": (Completion.FAILED, 200, 4),
    "step 3": (Completion.FAILED, 200, 8),
    # The response is through: it is the app's clean-up that has failed.
    "close": (Completion.SENT, 200, 8),
}


@pytest.mark.parametrize("lane", ["threads", "inline"])
@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("where", PLACES)
def test_it_reaches_the_server_and_the_outcome(where: str, kind: Any, lane: Any) -> None:
    error: BaseException = kind("the app's")
    bodies: list[Body] = []
    outer, inner = Seen(), Seen()
    with new_runner() as runner:
        wrapped = AfterResponseMiddleware(
            raising(where, error, bodies), runner=runner, callbacks=[outer], lane=lane
        )
        call = Call(wrapped)
        call.environ["test.register"] = inner
        caught: BaseException | None = None
        try:
            call.run()
        except BaseException as raised:  # KeyboardInterrupt, too
            caught = raised
        assert caught is error
        outcome = outer.one()
        assert inner.one() is outcome
        drain(runner)
        assert runner.statistics().succeeded == 2
    assert (outcome.completion, outcome.status, outcome.body_bytes) == PLACES[where]
    assert outcome.error is error
    assert not outcome.is_success
    assert [body.closed for body in bodies] == [1] * len(bodies)


@pytest.fixture
def runner() -> Iterator[Runner]:
    with new_runner() as runner:
        yield runner


def test_the_first_error_is_the_one_that_is_told(runner: Runner) -> None:
    """Iterating fails, and then ``close()`` fails too: the server gets both, one after another."""
    first, second = LookupError("step"), ValueError("close")
    seen = Seen()

    class Both(Body):
        def close(self) -> None:
            raise second

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [*TEXT])
        return Both("step 2", first)

    call = Call(AfterResponseMiddleware(app, runner=runner, callbacks=[seen]))
    with pytest.raises(ValueError, match="close") as raised:
        call.run()
    assert raised.value is second
    assert seen.one().error is first


def test_close_raises_when_the_client_has_gone(runner: Runner) -> None:
    """GeneratorExit meets a generator that cleans up badly: still DISCONNECTED."""
    seen = Seen()

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [*TEXT])
        try:
            yield b"a"
            yield b"b"
        finally:
            raise LookupError("clean-up")

    call = Call(AfterResponseMiddleware(app, runner=runner, callbacks=[seen])).begin()
    call.step()
    with pytest.raises(LookupError):
        call.close()
    outcome = seen.one()
    assert outcome.completion is Completion.DISCONNECTED
    assert isinstance(outcome.error, LookupError)


def test_an_error_page_that_the_app_makes_itself_is_sent(runner: Runner) -> None:
    seen = Seen()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            raise LookupError
        except LookupError:
            start_response("500 Error", [*TEXT], sys.exc_info())
        return [b"sorry"]

    Call(AfterResponseMiddleware(app, runner=runner, callbacks=[seen])).run()
    outcome = seen.one()
    assert (outcome.completion, outcome.status, outcome.error) == (Completion.SENT, 500, None)


@pytest.mark.parametrize("length", ["0", "100"])
@pytest.mark.parametrize("where", ["app", "step"])
def test_nothing_was_sent_when_it_failed(where: str, length: str, runner: Runner) -> None:
    """PEP 3333: headers are sent with the first part. Before it, the server sends
    an error page of its own, whatever Content-Length said: FAILED."""
    seen = Seen()
    error = LookupError()

    def body() -> Iterator[bytes]:
        raise error
        yield b""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", length)])
        if where == "app":
            raise error
        return body()

    call = Call(AfterResponseMiddleware(app, runner=runner, callbacks=[seen]))
    with pytest.raises(LookupError):
        call.run()
    assert (seen.one().completion, seen.one().error) == (Completion.FAILED, error)


def test_an_error_after_the_last_byte(runner: Runner) -> None:
    """The client has all that was announced (promise 1)."""
    seen = Seen()
    error = LookupError()

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "4")])
        yield b"four"
        raise error

    call = Call(AfterResponseMiddleware(app, runner=runner, callbacks=[seen]))
    with pytest.raises(LookupError):
        call.run()
    assert (seen.one().completion, seen.one().error) == (Completion.SENT, error)


@pytest.mark.parametrize("lane", ["threads", "inline"])
@pytest.mark.parametrize("where", ["before", "step 2"])
def test_callbacks_by_outcome(where: str, lane: Any, runner: Runner) -> None:
    """``when=``: "error" alone runs when the app fails, "success" alone when it does not."""
    ran: list[str] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        for when in ("success", "disconnect", "error", "always"):
            after_response.using(when=when)(ran.append, when)
        return raising(where, LookupError(), [])(environ, start_response)

    call = Call(AfterResponseMiddleware(app, runner=runner, lane=lane))
    call.environ["test.register"] = lambda outcome: None
    with pytest.raises(LookupError):
        call.run()
    drain(runner)
    assert ran == ["error", "always"]


def test_never_before_the_error_is_with_the_server(runner: Runner) -> None:
    """Promise 1: it may write its error page first. (Not for ever: nobody says when.)"""
    order: list[str] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        after_response(order.append, "callback")
        raise LookupError

    call = Call(AfterResponseMiddleware(app, runner=runner, lane="inline"))
    with pytest.raises(LookupError):
        call.begin()
    order.append("server")
    drain(runner)
    assert order == ["server", "callback"]


def test_the_traceback_is_as_it_was(runner: Runner) -> None:
    """The server logs it: the app's frames, and one of ours."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        raise LookupError

    with pytest.raises(LookupError) as raised:
        AfterResponseMiddleware(app, runner=runner)({"REQUEST_METHOD": "GET"}, lambda *a: print)
    assert raised.value.__context__ is None
    assert raised.traceback[-1].name == "app"
