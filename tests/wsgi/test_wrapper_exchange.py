"""Which exchange is current, where, and what is registered on it, behind the WSGI wrapper."""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from async_after import (
    CallbackState,
    Completion,
    NoActiveExchange,
    Runner,
    after_response,
    get_runner,
)
from async_after._core.exchange import KEY, current_exchange
from async_after.wsgi import AfterResponseMiddleware

from .wsgi_client import (
    App,
    Call,
    Environ,
    Seen,
    StartResponse,
    answering,
    drain,
    ended,
    environ_for,
    in_thread,
    joined,
    new_runner,
)

TEXT = [("Content-Type", "text/plain")]


@pytest.fixture
def runner() -> Iterator[Runner]:
    with new_runner() as runner:
        yield runner


class Watches:
    """A body that notes the current exchange wherever it is called."""

    def __init__(self, seen: list[object]) -> None:
        self._seen = seen

    def __iter__(self) -> Iterator[bytes]:
        self._seen.append(("iter", current_exchange.get()))
        return self._parts()

    def _parts(self) -> Iterator[bytes]:
        for part in (b"a", b"b"):
            self._seen.append(("step", current_exchange.get()))
            yield part
        self._seen.append(("end", current_exchange.get()))

    def close(self) -> None:
        self._seen.append(("close", current_exchange.get()))


def watching(seen: list[object]) -> App:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        seen.append(("app", current_exchange.get()))
        start_response("200 OK", [*TEXT])
        return Watches(seen)

    return app


WORDS = ["app", "iter", "step", "step", "end", "close"]


def test_it_is_current_wherever_the_app_is_called(runner: Runner) -> None:
    seen: list[object] = []
    call = Call(AfterResponseMiddleware(watching(seen), runner=runner)).run()
    assert seen == [(word, call.environ[KEY]) for word in WORDS]
    assert current_exchange.get() is None


def test_each_step_may_come_from_another_thread(runner: Runner) -> None:
    """hypercorn, granian and waitress do that."""
    seen: list[object] = []
    call = Call(AfterResponseMiddleware(watching(seen), runner=runner))
    for step in (call.begin, call.step, call.step, call.step, call.close):
        joined(in_thread(step))
    assert seen == [(word, call.environ[KEY]) for word in WORDS]


@pytest.mark.parametrize("closing", ["ab", "ba"])
def test_interleaved_with_another_in_the_same_thread(closing: str, runner: Runner) -> None:
    """A server that serves many in one thread, and steps through their bodies in turns."""
    seen: dict[str, list[object]] = {"a": [], "b": []}
    calls = {
        name: Call(AfterResponseMiddleware(watching(seen[name]), runner=runner)) for name in "ab"
    }
    for step in ("begin", "step", "step", "step", "close"):
        for name in closing if step == "close" else "ab":
            getattr(calls[name], step)()
    for name, call in calls.items():
        assert seen[name] == [(word, call.environ[KEY]) for word in WORDS]
    assert calls["a"].environ[KEY] is not calls["b"].environ[KEY]


def test_the_variable_of_the_server_is_back_after_each_step(runner: Runner) -> None:
    """An in-process client: the request around has an exchange of its own."""
    inner: list[Any] = []
    states: list[object] = []
    inner_app = AfterResponseMiddleware(watching(inner), runner=runner)

    def outer(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        mine = current_exchange.get()
        assert mine is environ[KEY]
        # ``Call`` checks after each step that mine is back.
        call = Call(inner_app).run()
        states.append(call.environ[KEY])
        assert current_exchange.get() is mine
        start_response("200 OK", [*TEXT])
        return [b""]

    call = Call(AfterResponseMiddleware(outer, runner=runner)).run()
    assert states == [inner[0][1]]
    assert states[0] is not call.environ[KEY]


def test_an_inner_stream_that_outlives_the_outer_view(runner: Runner) -> None:
    """A proxying view: its body is the other app's body, step by step."""
    inner: list[Any] = []
    outer: list[object] = []
    inner_app = AfterResponseMiddleware(watching(inner), runner=runner)

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        body: Any = inner_app(environ_for("/inner"), start_response)
        try:
            for part in body:
                outer.append(current_exchange.get())
                after_response(outer.append, "callback")
                yield part
        finally:
            body.close()

    call = Call(AfterResponseMiddleware(app, runner=runner)).run()
    drain(runner)
    assert call.content == b"ab"
    assert outer == [call.environ[KEY]] * 2 + ["callback"] * 2
    assert len({id(exchange) for _, exchange in inner}) == 1
    assert inner[0][1] is not call.environ[KEY]


# Registering.


@pytest.mark.parametrize("lane", ["threads", "inline"])
def test_wherever_the_app_is_called_it_may_register(lane: Any, runner: Runner) -> None:
    """In the view, in each step, and in ``close()``: they run in this order."""
    ran: list[str] = []

    class Registers(Watches):
        def __init__(self) -> None:
            super().__init__([])

        def _parts(self) -> Iterator[bytes]:
            for name in ("first", "second"):
                after_response(ran.append, name)
                yield b"x"
            after_response(ran.append, "end")

        def close(self) -> None:
            after_response(ran.append, "close")
            assert ran == []  # promise 1

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        after_response(ran.append, "view")
        start_response("200 OK", [*TEXT])
        return Registers()

    call = Call(AfterResponseMiddleware(app, runner=runner, lane=lane)).begin().pull()
    assert ran == []
    call.close()
    drain(runner)
    assert ran == ["view", "first", "second", "end", "close"]


@pytest.mark.parametrize("lane", ["threads", "inline"])
def test_registering_in_a_generators_finally(lane: Any, runner: Runner) -> None:
    """Cut by the client: ``close()`` raises GeneratorExit in it."""
    ran: list[str] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [*TEXT])
        try:
            yield b"a"
            yield b"b"
        finally:
            after_response.using(when="disconnect")(ran.append, "cut")
            after_response.using(when="success")(ran.append, "never")

    Call(AfterResponseMiddleware(app, runner=runner, lane=lane)).begin().close()
    call = Call(AfterResponseMiddleware(app, runner=runner, lane=lane)).begin()
    call.step()
    call.close()
    drain(runner)
    assert ran == ["cut"]  # the first one never came so far as its try


@pytest.mark.parametrize("lane", ["threads", "inline"])
def test_other_threads_register_with_the_environ(lane: Any, runner: Runner) -> None:
    ran: list[object] = []
    environ = environ_for()
    call = Call(AfterResponseMiddleware(answering(), runner=runner, lane=lane), environ).begin()

    def register() -> None:
        with pytest.raises(NoActiveExchange):
            after_response(ran.append, "lost")
        after_response.using(request=environ)(ran.append, "found")

    threads = [in_thread(register) for _ in range(8)]
    joined(*threads)
    assert ran == []
    call.pull().close()
    drain(runner)
    assert ran == ["found"] * 8


@pytest.mark.parametrize("lane", ["threads", "inline"])
def test_late(lane: Any, runner: Runner) -> None:
    """Promise 14: after ``close()``, at once, from any thread."""
    ran = threading.Event()
    environ = environ_for()
    Call(AfterResponseMiddleware(answering(), runner=runner, lane=lane), environ).run()
    callback = after_response.using(request=environ)(ran.set)
    ended(callback)
    assert callback.state is CallbackState.SUCCEEDED
    assert callback.outcome is not None
    assert callback.outcome.completion is Completion.SENT
    assert ran.is_set()


@pytest.mark.parametrize("lane", ["threads", "inline"])
def test_registering_races_with_close(lane: Any, runner: Runner) -> None:
    """Promise 2: each one of many threads' callbacks runs, before or late."""
    for _ in range(20):
        ran: list[int] = []
        environ = environ_for()
        wrapped = AfterResponseMiddleware(answering(), runner=runner, lane=lane)
        call = Call(wrapped, environ).begin().pull()
        barrier = threading.Barrier(4)

        def register(
            barrier: threading.Barrier = barrier,
            environ: Environ = environ,
            ran: list[int] = ran,
        ) -> None:
            barrier.wait(10)
            for number in range(5):
                after_response.using(request=environ)(ran.append, number)

        threads = [in_thread(register) for _ in range(3)]
        barrier.wait(10)
        call.close()
        joined(*threads)
        drain(runner)
        assert sorted(ran) == sorted([*range(5)] * 3)
    assert runner.statistics().succeeded == 20 * 15


@pytest.mark.parametrize("lane", ["threads", "inline"])
def test_nothing_registered_nothing_done(lane: Any) -> None:
    """Promise 12: no thread, and no callback counted."""
    with new_runner() as runner:
        before = set(threading.enumerate())
        for path in ("/a", "/b"):
            Call(
                AfterResponseMiddleware(answering(), runner=runner, lane=lane), environ_for(path)
            ).run()
        assert set(threading.enumerate()) <= before
        statistics = runner.statistics()
        assert statistics == Runner().statistics()


# The wrapper itself.


@pytest.mark.parametrize(
    ("arguments", "kind", "match"),
    [
        ({"app": None}, TypeError, "app must be a WSGI application"),
        ({"app": "module:app"}, TypeError, "not str"),
        ({"runner": object()}, TypeError, "runner must be a Runner"),
        ({"runner": Runner}, TypeError, "runner must be a Runner"),
        ({"lane": "thread"}, ValueError, "'thread'"),
        ({"lane": "loop"}, ValueError, "'loop'"),
        ({"lane": ""}, ValueError, "''"),
        ({"lane": 5}, TypeError, "not 5"),
        ({"lane": ["inline"]}, TypeError, "inline"),
        ({"callbacks": [None]}, TypeError, "callable"),
        ({"callbacks": print}, TypeError, "iterable"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], kind: type[Exception], match: str) -> None:
    arguments = {"app": answering()} | arguments
    with pytest.raises(kind, match=match):
        AfterResponseMiddleware(arguments.pop("app"), **arguments)


def test_all_but_the_app_by_name_only() -> None:
    make: Callable[..., object] = AfterResponseMiddleware
    with pytest.raises(TypeError):
        make(answering(), Runner())


def test_a_runner_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert AfterResponseMiddleware(answering()).runner is get_runner()


def test_callbacks_may_be_of_either_kind_and_a_generator(runner: Runner) -> None:
    ran: list[object] = []
    seen = Seen()

    async def acallback(outcome: object) -> None:
        ran.append(outcome)

    callbacks = (callback for callback in (seen, acallback))
    wrapped = AfterResponseMiddleware(answering(), runner=runner, callbacks=callbacks)
    for count in (1, 2):
        Call(wrapped).run()
        drain(runner)
        assert len(ran) == len(seen.outcomes) == count
    assert ran == seen.outcomes
