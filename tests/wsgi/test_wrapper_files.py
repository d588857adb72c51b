"""``wsgi.file_wrapper`` behind the WSGI wrapper: the server gets its own object."""

import gc
import io
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper

import pytest

from async_after import Completion, Runner, after_response
from async_after._core.exchange import KEY, current_exchange
from async_after.wsgi import AfterResponseMiddleware

from .wsgi_client import App, Call, Environ, Seen, StartResponse, drain, environ_for, new_runner

TEXT = [("Content-Type", "text/plain")]


class Slotted:
    """As one made in C: it lets nobody set its ``close``."""

    __slots__ = ("_file", "closed")

    def __init__(self, file: Any, block_size: int = 8192) -> None:
        self._file = file
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)

    def close(self) -> None:
        self.closed += 1


class Closes(io.BytesIO):
    """A file that says how often it was closed, and in which exchange."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.closes: list[object] = []

    def close(self) -> None:
        self.closes.append(current_exchange.get())
        super().close()


def function(file: Any, block_size: int = 8192) -> Any:
    """uWSGI's and mod_wsgi's is a function; uWSGI's gives the file itself."""
    return file


def serving(content: bytes = b"content", made: list[Any] | None = None, **more: Any) -> App:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [*TEXT])
        file: Iterable[bytes] = environ["wsgi.file_wrapper"](Closes(content), **more)
        if made is not None:
            made.append(file)
        return file

    return app


@pytest.fixture
def runner() -> Iterator[Runner]:
    with new_runner() as runner:
        yield runner


def call_of(app: App, file_wrapper: Any, runner: Runner, **more: Any) -> Call:
    wrapped = AfterResponseMiddleware(app, runner=runner, **more)
    return Call(wrapped, environ_for(**{"wsgi.file_wrapper": file_wrapper}))


@pytest.mark.parametrize("lane", ["threads", "inline"])
@pytest.mark.parametrize("file_wrapper", [FileWrapper, function])
def test_the_very_object_reaches_the_server(file_wrapper: Any, lane: Any, runner: Runner) -> None:
    made: list[Any] = []
    seen = Seen()
    call = call_of(serving(made=made), file_wrapper, runner, callbacks=[seen], lane=lane).begin()
    assert call.body is made[0]
    assert type(made[0]) is (FileWrapper if file_wrapper is FileWrapper else Closes)
    assert seen.outcomes == []
    # The server sends it by itself.
    call.close()
    outcome = seen.one()
    assert (outcome.completion, outcome.body_bytes) == (Completion.SENT, None)
    assert outcome.error is None
    file: Any = getattr(made[0], "filelike", made[0])
    assert file.closes == [call.environ[KEY]]
    drain(runner)


@pytest.mark.parametrize("file_wrapper", [FileWrapper, function, Slotted])
def test_the_servers_own_look_at_it(file_wrapper: Any, runner: Runner) -> None:
    """gunicorn: ``isinstance(body, environ["wsgi.file_wrapper"])``, after the app has returned."""
    call = call_of(serving(), file_wrapper, runner).begin()
    assert call.environ["wsgi.file_wrapper"] is file_wrapper
    call.close()


def test_the_server_finds_its_own_when_the_app_has_failed(runner: Runner) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        raise LookupError

    call = call_of(app, FileWrapper, runner)
    with pytest.raises(LookupError):
        call.begin()
    assert call.environ["wsgi.file_wrapper"] is FileWrapper


def test_an_app_may_look_at_it_too(runner: Runner) -> None:
    """A middleware inside, which passes files on as they are."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body: Any = serving()(environ, start_response)
        assert isinstance(body, environ["wsgi.file_wrapper"])
        made: Iterable[bytes] = body
        return made

    assert type(call_of(app, FileWrapper, runner).begin().close().body) is FileWrapper


def test_no_file_wrapper_none_is_made(runner: Runner) -> None:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [*TEXT])
        return [str(environ.get("wsgi.file_wrapper", "none")).encode()]

    for environ in (environ_for(), environ_for(**{"wsgi.file_wrapper": None})):
        call = Call(AfterResponseMiddleware(app, runner=runner), environ).run()
        assert call.content.lower() == b"none"


def test_with_a_block_size_by_name(runner: Runner) -> None:
    """PEP 3333 names no parameter; whoever knows his server may all the same."""
    made: list[Any] = []
    call_of(serving(made=made, blksize=7), FileWrapper, runner).begin().close()
    assert made[0].blksize == 7


def test_one_that_refuses_is_iterated(runner: Runner) -> None:
    """It cannot be patched, so the server does not get it itself, and loses no byte."""
    made: list[Any] = []
    seen = Seen()
    call = call_of(serving(b"a\nb", made), Slotted, runner, callbacks=[seen]).run()
    assert call.content == b"a\nb"
    assert made[0].closed == 1
    outcome = seen.one()
    assert (outcome.completion, outcome.body_bytes) == (Completion.SENT, 3)


def test_one_that_refuses_and_has_a_filelike() -> None:
    """Its ``close`` was looked up before: no patch of the file inside would be heard of."""

    class Frozen(FileWrapper):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "close" and "close" in vars(self):
                raise TypeError("frozen")
            super().__setattr__(name, value)

    seen = Seen()
    with new_runner(wait_timeout=0.1) as runner:
        call = call_of(serving(b"ab"), Frozen, runner, callbacks=[seen]).run()
        assert call.content == b"ab"
        drain(runner)
        assert [outcome.completion for outcome in seen.outcomes] == [Completion.SENT]


def test_one_without_close(runner: Runner) -> None:
    """It gets one: the server looks for it."""

    class NoClose:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __iter__(self) -> Iterator[bytes]:
            return iter(self.file)

    seen = Seen()
    call_of(serving(), NoClose, runner, callbacks=[seen]).run()
    assert seen.one().completion is Completion.SENT


def test_made_and_not_returned(runner: Runner) -> None:
    """It is none of the response."""
    kept: list[Any] = []
    seen = Seen()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        kept.append(environ["wsgi.file_wrapper"](Closes(b"other")))
        start_response("200 OK", [*TEXT])
        return [b"mine"]

    call = call_of(app, FileWrapper, runner, callbacks=[seen]).begin()
    kept[0].close()
    assert seen.outcomes == []
    assert call.pull().close().content == b"mine"
    assert (seen.one().completion, seen.one().body_bytes) == (Completion.SENT, 4)


@pytest.mark.parametrize("returned", [0, 1])
def test_two_made_and_one_returned(returned: int, runner: Runner) -> None:
    made: list[Any] = []
    seen = Seen()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [*TEXT])
        made.extend(environ["wsgi.file_wrapper"](Closes(b"x")) for _ in range(2))
        body: Iterable[bytes] = made[returned]
        return body

    call = call_of(app, FileWrapper, runner, callbacks=[seen]).begin()
    made[1 - returned].close()
    assert seen.outcomes == []
    assert call.body is made[returned]
    call.close()
    assert seen.one().completion is Completion.SENT


def test_inside_another_iterable(runner: Runner) -> None:
    """As a middleware inside does that counts or compresses: iterated, and counted."""

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        for part in serving(b"content")(environ, start_response):
            yield part.upper()

    seen = Seen()
    call = call_of(app, FileWrapper, runner, callbacks=[seen]).run()
    assert call.content == b"CONTENT"
    assert (seen.one().completion, seen.one().body_bytes) == (Completion.SENT, 7)


def test_in_a_step_of_the_body(runner: Runner) -> None:
    """An app that is a generator makes it when the server asks: it is only iterated."""

    def app(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [*TEXT])
        yield from environ["wsgi.file_wrapper"](Closes(b"content"))

    seen = Seen()
    assert call_of(app, FileWrapper, runner, callbacks=[seen]).run().content == b"content"
    assert seen.one().body_bytes == 7


def test_head(runner: Runner) -> None:
    seen = Seen()
    wrapped = AfterResponseMiddleware(serving(), runner=runner, callbacks=[seen])
    environ = environ_for("/page", "HEAD", **{"wsgi.file_wrapper": FileWrapper})
    Call(wrapped, environ).begin().close()
    assert (seen.one().completion, seen.one().body_bytes) == (Completion.SENT, 0)


def test_close_twice(runner: Runner) -> None:
    made: list[Any] = []
    seen = Seen()
    call_of(serving(made=made), FileWrapper, runner, callbacks=[seen]).begin().close().close()
    drain(runner)
    assert len(seen.outcomes) == 1


def test_close_raises(runner: Runner) -> None:
    error = LookupError()

    class Raises(FileWrapper):
        def __init__(self, file: Any) -> None:
            super().__init__(file)
            self.close = self._close

        def _close(self) -> None:
            raise error

    seen = Seen()
    call = call_of(serving(), Raises, runner, callbacks=[seen]).begin()
    with pytest.raises(LookupError):
        call.close()
    assert (seen.one().completion, seen.one().error) == (Completion.SENT, error)


def test_registering_when_the_file_is_closed(runner: Runner) -> None:
    """``close()`` runs inside the exchange."""
    ran: list[str] = []

    class Registers(io.BytesIO):
        def close(self) -> None:
            if not self.closed:
                after_response(ran.append, "closed")
            super().close()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [*TEXT])
        file: Iterable[bytes] = environ["wsgi.file_wrapper"](Registers(b"a"))
        return file

    call_of(app, FileWrapper, runner).begin().close()
    drain(runner)
    assert ran == ["closed"]


def test_wrapped_twice(runner: Runner) -> None:
    made: list[Any] = []
    outer, inner = Seen(), Seen()
    app = AfterResponseMiddleware(serving(made=made), runner=runner, callbacks=[inner])
    call = call_of(app, FileWrapper, runner, callbacks=[outer]).begin()
    assert call.body is made[0]
    call.close()
    assert outer.one() is inner.one()
    assert outer.one().body_bytes is None


def test_nobody_closes_it() -> None:
    """Promise 2: a middleware outside that forgets it does not lose the callbacks."""
    seen = Seen()
    with new_runner(wait_timeout=0.1) as runner:
        call = call_of(serving(), FileWrapper, runner, callbacks=[seen]).begin()
        del call
        gc.collect()
        seen.one()


def test_the_handler_of_wsgiref_sends_it(runner: Runner) -> None:
    """A real server's code: it looks what it got, and may send it as it likes."""
    sent: list[object] = []
    seen = Seen()

    class Handler(SimpleHandler):
        def sendfile(self) -> bool:
            sent.append(vars(self)["result"])
            self.send_headers()
            self._write(b"by sendfile")
            return True

    out = io.BytesIO()
    handler = Handler(io.BytesIO(), out, io.StringIO(), environ_for())
    handler.run(AfterResponseMiddleware(serving(), runner=runner, callbacks=[seen]))
    [file] = sent
    assert type(file) is FileWrapper
    assert b"by sendfile" in out.getvalue()
    assert seen.one().completion is Completion.SENT
    assert seen.one().body_bytes is None
    drain(runner)
