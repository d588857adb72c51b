"""The WSGI wrapper and PEP 3333: nothing that server and app tell each other is changed."""

import gc
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from async_after import Runner, after_response
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
    environ_for,
    new_runner,
)

TEXT = [("Content-Type", "text/plain")]


@pytest.fixture
def runner() -> Iterator[Runner]:
    with new_runner() as runner:
        yield runner


def a_generator(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """``start_response`` is called in the first step."""
    after_response(environ["test.calls"].append, "registered")
    start_response("200 OK", [*TEXT])
    yield b"one"
    after_response(environ["test.calls"].append, "later")
    yield b"two"


def a_writer(environ: Environ, start_response: StartResponse) -> list[bytes]:
    after_response(environ["test.calls"].append, "registered")
    start_response("200 OK", [*TEXT])(b"one")
    after_response(environ["test.calls"].append, "later")
    return [b"two"]


def a_list(environ: Environ, start_response: StartResponse) -> list[bytes]:
    after_response(environ["test.calls"].append, "registered")
    start_response("200 OK", [*TEXT])
    after_response(environ["test.calls"].append, "later")
    return [b"one", b"two"]


@pytest.mark.parametrize("app", [a_generator, a_writer, a_list])
@pytest.mark.parametrize("lane", ["threads", "inline"])
def test_validated_on_both_sides(app: App, lane: Any, runner: Runner) -> None:
    wrapped = AfterResponseMiddleware(validator(app), runner=runner, lane=lane)
    calls: list[str] = []
    call = Call(validator(wrapped), environ_for(**{"test.calls": calls}))
    call.begin()
    # The validator wants no iteration after close(), and close() before it is collected.
    call.pull().close()
    assert (call.status, call.content) == ("200 OK", b"onetwo")
    drain(runner)
    assert calls == ["registered", "later"]
    del call
    gc.collect()


@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE"])
def test_validated_for_other_methods(method: str, runner: Runner) -> None:
    environ: Environ = {"REQUEST_METHOD": method}
    setup_testing_defaults(environ)
    environ |= {"QUERY_STRING": "", "test.calls": []}
    Call(
        validator(AfterResponseMiddleware(validator(a_list), runner=runner)), environ
    ).begin().pull().close()
    drain(runner)
    assert environ["test.calls"] == ["registered", "later"]


def test_what_the_server_gives_reaches_the_app(runner: Runner) -> None:
    """The very environ, with one key more; status, headers and exc_info as they are."""
    environ = environ_for(**{"some.key": object()})
    before = {**environ}
    seen: list[Any] = []

    def app(inner: Environ, start_response: StartResponse) -> list[bytes]:
        assert inner is environ
        seen.append({**inner})
        start_response("299 Odd \xe9", [("X-A", "\xe9"), ("X-A", "2")])
        return []

    call = Call(AfterResponseMiddleware(app, runner=runner), environ).run()
    assert seen[0].pop(KEY) is not None
    assert seen[0] == before
    assert call.status == "299 Odd \xe9"
    assert call.headers == [("X-A", "\xe9"), ("X-A", "2")]


# The body.


class Parts:
    """Says what is done to it."""

    def __init__(self, parts: Iterable[bytes], log: list[str]) -> None:
        self._parts = iter(parts)
        self._log = log

    def __iter__(self) -> Iterator[bytes]:
        self._log.append("iter")
        return self

    def __next__(self) -> bytes:
        part = next(self._parts, None)
        self._log.append("end" if part is None else part.decode())
        if part is None:
            raise StopIteration
        return part

    def close(self) -> None:
        self._log.append("close")


class SizedParts(Parts):
    def __len__(self) -> int:
        return 2


def test_no_part_is_pulled_before_the_server_asks(runner: Runner) -> None:
    log: list[str] = []
    call = Call(AfterResponseMiddleware(answering(Parts([b"a", b"b"], log)), runner=runner))
    call.on_send = lambda data: log.append(f"sent {data.decode()}")
    call.begin()
    assert log == []
    call.step()
    assert log == ["iter", "a", "sent a"]
    call.pull()
    assert log[3:] == ["b", "sent b", "end"]
    call.close()
    assert log == ["iter", "a", "sent a", "b", "sent b", "end", "close"]


def test_iter_may_be_called_again(runner: Runner) -> None:
    """``for`` calls it on an iterator, too: the app's is asked once."""
    log: list[str] = []
    wrapped = AfterResponseMiddleware(answering(Parts([b"a", b"b"], log)), runner=runner)
    body = Call(wrapped).begin().body
    assert body is not None
    steps = iter(body)
    assert next(steps) == b"a"
    assert [*iter(steps)] == [b"b"]
    assert log.count("iter") == 1


def test_a_list_starts_again_for_nobody(runner: Runner) -> None:
    """A server may ask whether there is more when there was none."""
    call = Call(AfterResponseMiddleware(answering([b"a"]), runner=runner)).begin().pull()
    assert call.step() is None
    call.close()
    assert call.content == b"a"


@pytest.mark.parametrize(
    ("body", "length"),
    [
        ([b"a"], 1),
        ([], 0),
        ((b"a", b"b"), 2),
        (SizedParts([b"a", b"b"], []), 2),
        (Parts([b"a"], []), None),
        (iter([b"a"]), None),
        ((part for part in [b"a"]), None),
    ],
)
def test_len_is_kept(body: Any, length: int | None, runner: Runner) -> None:
    """Servers set Content-Length from it when there is one part (``wsgiref``)."""
    call = Call(AfterResponseMiddleware(answering(body), runner=runner)).begin()
    made: Any = call.body
    assert hasattr(made, "__len__") is (length is not None)
    if length is not None:
        assert len(made) == length
    call.pull().close()


def test_a_response_has_no_len_by_accident(runner: Runner) -> None:
    """The app's iterable is asked late, when the server asks."""

    class Grows(list[bytes]):
        pass

    grows = Grows([b"a"])
    call = Call(AfterResponseMiddleware(answering(grows), runner=runner)).begin()
    grows.append(b"b")
    made: Any = call.body
    assert len(made) == 2
    assert call.pull().close().content == b"ab"


@pytest.mark.parametrize("parts", [0, 1, 2, 3])
def test_close_reaches_the_app_once(parts: int, runner: Runner) -> None:
    log: list[str] = []
    call = Call(AfterResponseMiddleware(answering(Parts([b"a", b"b"], log)), runner=runner)).begin()
    for _ in range(parts):
        call.step()
    call.close()
    assert log.count("close") == 1


def test_close_twice_is_passed_on_and_ends_it_once(runner: Runner) -> None:
    log: list[str] = []
    seen = Seen()
    call = Call(
        AfterResponseMiddleware(answering(Parts([], log)), runner=runner, callbacks=[seen])
    ).begin()
    call.pull().close().close()
    drain(runner)
    assert log.count("close") == 2
    assert len(seen.outcomes) == 1


def test_a_generator_is_closed(runner: Runner) -> None:
    """``close()`` of one that was not exhausted raises GeneratorExit in it."""
    seen: list[object] = []

    def parts() -> Iterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        except GeneratorExit:
            seen.append("closed")
            seen.append(current_exchange.get())
            raise

    call = Call(AfterResponseMiddleware(answering(parts()), runner=runner)).begin()
    call.step()
    call.close()
    assert seen == ["closed", call.environ[KEY]]


def test_what_the_app_returned_is_free_afterwards(runner: Runner) -> None:
    """Nothing of a request stays behind when the server has let go of it."""

    class Body(list[bytes]):
        pass

    bodies: list[weakref.ref[Any]] = []

    def app(environ: Environ, start_response: StartResponse) -> Body:
        after_response(int)
        start_response("200 OK", [*TEXT])
        body = Body([b"a"])
        bodies.append(weakref.ref(body))
        return body

    call = Call(AfterResponseMiddleware(app, runner=runner)).run()
    drain(runner)
    del call
    gc.collect()
    assert bodies[0]() is None


def test_without_callbacks_nothing_is_freed_by_the_collector_only(runner: Runner) -> None:
    """Promise 12, idle_cost: no circle that waits for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        exchanges = []
        wrapped = AfterResponseMiddleware(answering(), runner=runner)
        for _ in range(3):
            environ = environ_for(**{"wsgi.file_wrapper": Parts})
            body: Any = wrapped(environ, lambda status, headers: lambda data: None)
            assert [*body] == [b"hello"]
            body.close()
            exchanges.append(weakref.ref(environ[KEY]))
            del environ, body
        assert [exchange() for exchange in exchanges] == [None] * 3
    finally:
        gc.enable()


# start_response.


def test_called_again_with_exc_info_before_anything_is_sent(runner: Runner) -> None:
    seen = Seen()

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [*TEXT])
        try:
            raise LookupError
        except LookupError:
            start_response("500 Sorry", [("X-Error", "1")], sys.exc_info())
        return [b"sorry"]

    call = Call(AfterResponseMiddleware(app, runner=runner, callbacks=[seen])).run()
    assert (call.status, call.headers) == ("500 Sorry", [("X-Error", "1")])
    assert (seen.one().status, seen.one().headers) == (500, (("x-error", "1"),))
    assert seen.one().error is None


@pytest.mark.parametrize("by_keyword", [True, False])
@pytest.mark.parametrize("by_write", [True, False])
def test_called_again_with_exc_info_when_headers_are_sent(
    by_keyword: bool, by_write: bool, runner: Runner
) -> None:
    """The server raises it; the app must not get round that."""
    seen = Seen()
    error = LookupError("lost")

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        write = start_response("200 OK", [*TEXT])
        if by_write:
            write(b"one")
        else:
            yield b"one"
        try:
            raise error
        except LookupError:
            if by_keyword:
                start_response("500 Sorry", [], exc_info=sys.exc_info())
            else:
                start_response("500 Sorry", [], sys.exc_info())
        yield b"never"

    call = Call(AfterResponseMiddleware(app, runner=runner, callbacks=[seen]))
    with pytest.raises(LookupError) as raised:
        call.run()
    assert raised.value is error
    assert call.content == b"one"
    outcome = seen.one()
    assert (outcome.status, outcome.error, outcome.body_bytes) == (200, error, 3)


def test_called_again_without_exc_info_is_the_servers_affair(runner: Runner) -> None:
    seen = Seen()

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [*TEXT])
        start_response("404 Not Found", [])
        return [b"never"]

    call = Call(AfterResponseMiddleware(app, runner=runner, callbacks=[seen]))
    with pytest.raises(AssertionError, match="twice"):
        call.begin()
    assert call.status == "200 OK"
    assert isinstance(seen.one().error, AssertionError)


def test_none_as_exc_info_is_passed_on(runner: Runner) -> None:
    got: list[Any] = []

    def start_response(*args: Any, **kwargs: Any) -> Callable[[bytes], None]:
        got.append((args, kwargs))
        return lambda data: None

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [], None)
        return []

    AfterResponseMiddleware(app, runner=runner)(environ_for(), start_response)
    [(args, kwargs)] = got
    assert (args, kwargs) == (("200 OK", [], None), {})


@pytest.mark.parametrize("status", ["OK", "", "2xx what", "²00 OK"])
def test_a_status_that_the_server_accepts_is_not_refused(status: str, runner: Runner) -> None:
    """Whatever the server takes, goes; the outcome then knows no status."""
    seen = Seen()
    call = Call(AfterResponseMiddleware(answering([b"a"], status), runner=runner, callbacks=[seen]))
    assert call.run().status == status
    assert seen.one().status is None


def test_a_server_may_change_the_list_of_headers(runner: Runner) -> None:
    """PEP 3333: "servers may change its contents in any way they desire"."""
    seen = Seen()

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        headers.clear()
        return lambda data: None

    app = answering([b"a"], headers=[("X-App", "1")])
    wrapped = AfterResponseMiddleware(app, runner=runner, callbacks=[seen])
    body: Any = wrapped(environ_for(), start_response)
    assert [*body] == [b"a"]
    body.close()
    assert seen.one().headers == (("x-app", "1"),)


def test_write_gives_what_the_server_gives(runner: Runner) -> None:
    """Errors too, and it runs where the app calls it."""
    got: list[bytes] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", [*TEXT])
        write(b"")
        write(b"abc")
        with pytest.raises(ValueError, match="no more"):
            write(b"refused")
        assert current_exchange.get() is environ[KEY]
        return [b"d"]

    seen = Seen()
    call = Call(AfterResponseMiddleware(app, runner=runner, callbacks=[seen]))

    def on_send(data: bytes) -> None:
        got.append(data)
        if data == b"refused":
            raise ValueError("no more")

    call.on_send = on_send
    call.run()
    assert got == [b"", b"abc", b"refused", b"d"]
    assert seen.one().body_bytes == 4
