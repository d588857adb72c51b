"""The outcome of each way in which a response can go, behind the WSGI wrapper."""

import gc
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_after import Completion, Outcome
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
    outcome_of,
)

SENT, DISCONNECTED, FAILED = Completion.SENT, Completion.DISCONNECTED, Completion.FAILED
TEXT = [("Content-Type", "text/plain")]


def length(number: int) -> list[tuple[str, str]]:
    return [("content-LENGTH", str(number))]


def parts(*all_parts: bytes) -> Iterator[bytes]:
    yield from all_parts


def played(*what: str) -> Callable[[Call], None]:
    """``begin``, ``step``, ``pull``, ``close``, ``run``, one after another."""

    def play(call: Call) -> None:
        for word in what:
            getattr(call, word)()

    return play


def test_all_that_is_known_of_it() -> None:
    began = datetime.now(UTC)
    headers = [*TEXT, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=\xe9")]
    app = answering(parts(b"one", b"three"), "201 Created", headers)
    outcome = outcome_of(app, Call.run, environ_for("/some/page", "PUT"))
    assert (outcome.completion, outcome.status, outcome.body_bytes) == (SENT, 201, 8)
    assert outcome.headers == (
        ("content-type", "text/plain"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=\xe9"),
    )
    assert (outcome.method, outcome.path, outcome.error) == ("PUT", "/some/page", None)
    assert outcome.is_success
    assert outcome.time_to_first_byte is not None
    assert 0 <= outcome.time_to_first_byte <= outcome.duration
    assert abs(outcome.started_at - began) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("script_name", "path_info", "path"),
    [
        ("", "/", "/"),
        ("", "", ""),
        ("/sub", "", "/sub"),
        ("/sub", "/page", "/sub/page"),
        ("/s\xc3\xbcb", "/\xc3\xa9t\xc3\xa9/%2F", "/süb/été/%2F"),
        ("", "/not-utf8-\xe9", "/not-utf8-�"),
        ("", "/snow-☃", "/snow-?"),  # from a server that breaks PEP 3333
    ],
)
def test_the_path(script_name: str, path_info: str, path: str) -> None:
    environ = environ_for(path_info, SCRIPT_NAME=script_name)
    assert outcome_of(answering(), Call.run, environ).path == path


def test_the_path_without_the_names() -> None:
    """PEP 3333 lets either be missing."""
    environ = environ_for()
    del environ["SCRIPT_NAME"], environ["PATH_INFO"]
    assert outcome_of(answering(), Call.run, environ).path == ""


def test_the_path_is_the_servers_not_the_routers() -> None:
    """A router moves parts of PATH_INFO to SCRIPT_NAME."""

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/elsewhere", "/x"
        start_response("200 OK", [])
        return []

    assert outcome_of(app, Call.run, environ_for("/page")).path == "/page"


def test_the_times() -> None:
    """To the first part, and to the last one: not to the first or last call."""
    moments: list[float] = []

    def body() -> Iterator[bytes]:
        for gate in gates:
            assert gate.wait(10)
            yield b"x"

    gates = [threading.Event(), threading.Event()]

    def play(call: Call) -> None:
        call.begin()
        for gate in gates:
            timer = threading.Timer(0.05, gate.set)
            timer.start()
            call.step()
            timer.join()
        call.pull().close()

    outcome = outcome_of(answering(body()), play)
    assert outcome.time_to_first_byte is not None
    moments += [outcome.time_to_first_byte, outcome.duration]
    assert moments[0] >= 0.04
    assert moments[1] - moments[0] >= 0.04


def test_no_part_no_first_byte() -> None:
    outcome = outcome_of(answering([]), Call.run)
    assert (outcome.time_to_first_byte, outcome.body_bytes) == (None, 0)
    assert outcome.completion is SENT


# How much of it was pulled.


@pytest.mark.parametrize("make", [list, tuple, lambda body: parts(*body), lambda body: iter(body)])
@pytest.mark.parametrize(
    ("what", "announced", "completion"),
    [
        (["begin", "close"], None, DISCONNECTED),
        (["begin", "step", "close"], None, DISCONNECTED),
        (["begin", "step", "step", "close"], None, DISCONNECTED),
        (["begin", "pull", "close"], None, SENT),
        (["begin", "close"], 6, DISCONNECTED),
        (["begin", "step", "close"], 6, DISCONNECTED),
        # A server need not ask for more than was announced.
        (["begin", "step", "step", "close"], 6, SENT),
        (["begin", "step", "step", "close"], 5, SENT),
        (["begin", "step", "step", "close"], 7, DISCONNECTED),
        (["begin", "pull", "close"], 6, SENT),
        (["begin", "close"], 0, SENT),
    ],
)
def test_whether_it_was_all_pulled(
    what: list[str],
    announced: int | None,
    completion: Completion,
    make: Callable[[Iterable[bytes]], Any],
) -> None:
    headers = TEXT if announced is None else length(announced)
    outcome = outcome_of(answering(make([b"one", b"two"]), headers=headers), played(*what))
    assert outcome.completion is completion
    assert outcome.body_bytes == (6 if "pull" in what else 3 * what.count("step"))
    assert outcome.is_success is (completion is SENT)


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No"), ("GET", "304 No")]
)
@pytest.mark.parametrize("what", [["begin", "close"], ["run"]])
@pytest.mark.parametrize("headers", [TEXT, length(100)])
def test_a_response_without_body_need_not_be_iterated(
    what: list[str], headers: list[tuple[str, str]], method: str, status: str
) -> None:
    app = answering(parts(b"one"), status, headers)
    outcome = outcome_of(app, played(*what), environ_for("/page", method))
    assert (outcome.completion, outcome.body_bytes) == (SENT, 0)


def test_bytes_that_were_written_count() -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", length(9))
        write(b"one")
        write(b"two")
        return parts(b"six", b"never asked for")

    outcome = outcome_of(app, played("begin", "step", "close"))
    assert (outcome.completion, outcome.body_bytes) == (SENT, 9)


def test_only_written() -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", TEXT)(b"all of it")
        return []

    outcome = outcome_of(app, Call.run)
    assert (outcome.completion, outcome.body_bytes) == (SENT, 9)
    assert outcome.time_to_first_byte is not None


def test_without_start_response_there_was_no_response() -> None:
    """The server answers 500; ``when="success"`` must not run."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return []

    outcome = outcome_of(app, Call.run)
    assert (outcome.status, outcome.completion) == (None, FAILED)
    assert not outcome.is_success


@pytest.mark.parametrize("nothing", [None, 5])
def test_what_is_no_iterable_fails_where_the_server_iterates(nothing: Any) -> None:
    outcome = outcome_of(answering(nothing), Call.run)
    assert outcome.completion is FAILED
    assert isinstance(outcome.error, TypeError)


def test_a_part_that_is_no_bytes_is_the_apps_failure() -> None:
    """No client has left."""
    body: list[Any] = [b"a", 5]
    outcome = outcome_of(answering(iter(body)), Call.run)
    assert outcome.completion is FAILED
    assert isinstance(outcome.error, TypeError)


# The client leaves.


def cut(error: BaseException, after: int = 0) -> Callable[[Call], None]:
    """The socket raises it, at this part."""

    def play(call: Call) -> None:
        def on_send(data: bytes) -> None:
            if len(call.sent) == after:
                raise error

        call.on_send = on_send
        call.run()

    return play


@pytest.mark.parametrize("error", [BrokenPipeError(), ConnectionResetError()])
@pytest.mark.parametrize("headers", [TEXT, length(5)])
@pytest.mark.parametrize("make", [lambda: [b"hello"], lambda: parts(b"hello")])
def test_what_the_socket_raises_is_a_disconnect(
    error: Exception, headers: list[tuple[str, str]], make: Callable[[], Iterable[bytes]]
) -> None:
    """Though the server has pulled all that was announced."""
    outcome = outcome_of(answering(make(), headers=headers), cut(error))
    assert (outcome.completion, outcome.error) == (DISCONNECTED, None)


def test_the_last_part_was_pulled_and_could_not_be_sent() -> None:
    """Servers that hold a part back until they know whether it is the last one."""

    def play(call: Call) -> None:
        call.begin()
        try:
            call.pull()
            raise BrokenPipeError
        finally:
            call.close()

    assert outcome_of(answering(parts(b"a")), play).completion is DISCONNECTED


def test_an_error_that_was_there_before_says_nothing() -> None:
    def play(call: Call) -> None:
        try:
            raise ConnectionResetError("of the last request, say")
        except ConnectionResetError:
            call.run()

    assert outcome_of(answering(), play).completion is SENT


def test_an_error_that_is_over_says_nothing() -> None:
    def play(call: Call) -> None:
        call.begin()
        try:
            raise ConnectionResetError("of a log server, say")
        except ConnectionResetError:
            call.pull()
        call.close()

    assert outcome_of(answering(), play).completion is SENT


def test_another_error_in_close_that_is_handled() -> None:
    """A server's bug with all parts sent."""

    def play(call: Call) -> None:
        call.begin().pull()
        try:
            raise LookupError
        except LookupError:
            call.close()

    assert outcome_of(answering(), play).completion is SENT


def test_write_to_a_client_that_has_gone() -> None:
    """As in ``send()`` under ASGI: what leaves the app then is the server's doing."""
    error = BrokenPipeError()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", TEXT)(b"one")
        return []

    outcome = outcome_of(app, cut(error))
    assert outcome.completion is DISCONNECTED
    assert outcome.body_bytes == 0


def test_write_to_a_client_that_has_gone_and_the_app_swallows_it() -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", TEXT)
        with pytest.raises(BrokenPipeError):
            write(b"one")
        return []

    assert outcome_of(app, cut(BrokenPipeError())).completion is DISCONNECTED


@pytest.mark.parametrize("error", [ConnectionResetError("of a database"), socket.gaierror()])
@pytest.mark.parametrize("where", ["app", "body"])
def test_an_apps_own_connection_error_is_a_failure(error: OSError, where: str) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        if where == "app":
            raise error
        return body()

    def body() -> Iterator[bytes]:
        yield b"a"
        raise error

    outcome = outcome_of(app, Call.run)
    assert (outcome.completion, outcome.error) == (FAILED, error)


# Nobody closes it.


@pytest.mark.parametrize(
    ("what", "completion"),
    [(["begin"], DISCONNECTED), (["begin", "step"], DISCONNECTED), (["begin", "pull"], SENT)],
)
def test_dropped_without_close(what: list[str], completion: Completion) -> None:
    """A middleware outside that loses it, or an adapter that never calls ``close()``."""
    seen = Seen()
    with new_runner() as runner:
        app = answering(parts(b"a"))
        call = Call(AfterResponseMiddleware(app, runner=runner, callbacks=[seen]))
        played(*what)(call)
        del call
        gc.collect()
        assert seen.one().completion is completion
        drain(runner)


# Any sequence.


@settings(max_examples=60, deadline=None)
@given(
    body=st.lists(st.binary(max_size=5), max_size=4),
    written=st.lists(st.binary(max_size=5), max_size=3),
    announced=st.none() | st.integers(0, 20),
    pulled=st.integers(0, 5),
    method=st.sampled_from(["GET", "HEAD", "POST"]),
    status=st.sampled_from([200, 204, 304, 404, 500]),
    is_list=st.booleans(),
    is_broken=st.booleans(),
)
def test_any_response(
    body: list[bytes],
    written: list[bytes],
    announced: int | None,
    pulled: int,
    method: str,
    status: int,
    is_list: bool,
    is_broken: bool,
) -> None:
    """A model: what was accepted, and whether the server had all of it."""
    headers = TEXT if announced is None else length(announced)

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response(f"{status} X", [*headers])
        for data in written:
            write(data)
        return body if is_list else iter(body)

    def play(call: Call) -> None:
        call.begin()
        for _ in range(pulled):
            call.step()
        if not is_broken:
            call.close()
            return
        try:
            raise BrokenPipeError
        finally:
            call.close()

    outcome = outcome_of(app, play, environ_for("/page", method))
    size = len(b"".join([*written, *body[:pulled]]))
    bodiless = method == "HEAD" or status in (204, 304)
    is_whole = pulled > len(body) or bodiless or (announced is not None and size >= announced)
    assert outcome.body_bytes == (0 if bodiless else size)
    assert outcome.completion is (DISCONNECTED if is_broken or not is_whole else SENT)
    assert (outcome.status, outcome.error) == (status, None)
    assert isinstance(outcome, Outcome)


def test_the_app_is_a_class_too() -> None:
    """PEP 3333: "or a class with such an ``__init__`` that is iterable"."""

    class Application:
        def __init__(self, environ: Environ, start_response: StartResponse) -> None:
            self.start = start_response

        def __iter__(self) -> Iterator[bytes]:
            self.start("200 OK", TEXT)
            yield b"class"

    app: App = Application
    outcome = outcome_of(app, Call.run)
    assert (outcome.completion, outcome.status, outcome.body_bytes) == (SENT, 200, 5)
