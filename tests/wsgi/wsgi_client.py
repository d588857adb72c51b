"""Plays the server of a WSGI app, in the test's own process and thread, step by step."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self
from wsgiref.util import setup_testing_defaults

from async_after import Callback, Outcome, Runner
from async_after._core.exchange import current_exchange
from async_after.wsgi import AfterResponseMiddleware

DEADLINE = 15.0
"""Seconds after which a test gives up; no test that passes waits that long."""

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
App = Callable[[Any, Any], Iterable[bytes]]
Headers = list[tuple[str, str]]


def environ_for(path: str = "/page", method: str = "GET", /, **more: Any) -> Environ:
    """As a server makes it. (``wsgiref.validate`` wants a plain dict.)"""
    environ: Environ = {"REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path}
    environ["QUERY_STRING"] = ""
    setup_testing_defaults(environ)
    return environ | more


def answering(
    parts: Iterable[bytes] = (b"hello",),
    status: str = "200 OK",
    headers: Iterable[tuple[str, str]] = (("Content-Type", "text/plain"),),
) -> App:
    """An app that returns these very parts."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, [*headers])
        return parts

    return app


class Call:
    """One request. After each step the server's own context must be as it was."""

    def __init__(self, app: App, environ: Environ | None = None) -> None:
        self.app = app
        self.environ = environ_for() if environ is None else environ
        self.status: str | None = None
        self.headers: Headers = []
        self.sent: list[bytes] = []
        self.body: Iterable[bytes] | None = None
        self.on_send: Callable[[bytes], object] = lambda data: None
        """What the socket does with each part."""
        self._steps: Iterator[bytes] | None = None
        self._are_headers_sent = False

    @property
    def content(self) -> bytes:
        return b"".join(self.sent)

    def start_response(
        self, status: str, headers: Headers, exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """PEP 3333, "The start_response() Callable"."""
        try:
            if exc_info and self._are_headers_sent:
                raise exc_info[1].with_traceback(exc_info[2])
            if not exc_info and self.status is not None:
                raise AssertionError("start_response was called twice")
        finally:
            exc_info = None
        self.status, self.headers = status, headers
        return self.send

    def send(self, data: bytes) -> None:
        assert self.status is not None, "a part before start_response"
        self._are_headers_sent = self._are_headers_sent or bool(data)
        self.on_send(data)
        self.sent.append(data)

    @contextmanager
    def _in_the_servers_context(self) -> Iterator[None]:
        before = current_exchange.get()
        try:
            yield
        finally:
            assert current_exchange.get() is before, "the exchange has leaked"

    def begin(self) -> Self:
        with self._in_the_servers_context():
            self.body = self.app(self.environ, self.start_response)
        return self

    def step(self) -> bytes | None:
        """Pull one part and send it; ``None`` at the end."""
        with self._in_the_servers_context():
            if self._steps is None:
                assert self.body is not None
                self._steps = iter(self.body)
            part = next(self._steps, None)
        if part is not None:
            self.send(part)
        return part

    def pull(self) -> Self:
        """All the parts."""
        while self.step() is not None:
            pass
        return self

    def close(self) -> Self:
        with self._in_the_servers_context():
            close = getattr(self.body, "close", None)
            if close is not None:
                close()
        return self

    def run(self) -> Self:
        """As every server does it."""
        self.begin()
        try:
            self.pull()
        finally:
            self.close()
        return self


class Seen:
    """A callback for ``callbacks=``: the outcomes it was given."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._one = threading.Event()

    def __call__(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._one.set()

    def one(self) -> Outcome:
        """The only one, as soon as it is there."""
        wait(self._one)
        [outcome] = self.outcomes
        return outcome


def wait(event: threading.Event) -> None:
    assert event.wait(DEADLINE), "not within the deadline"


def ended(*callbacks: Callback[Any]) -> None:
    """Wait until they have ended, however."""
    for callback in callbacks:
        assert callback._owner.latch(callback).wait_in_thread(DEADLINE), callback


def drain(runner: Runner) -> None:
    asyncio.run(runner.drain(DEADLINE))


@contextmanager
def new_runner(**bounds: Any) -> Iterator[Runner]:
    """One of the test's own, which leaves no thread behind."""
    runner = Runner(**bounds)
    try:
        yield runner
    finally:
        asyncio.run(runner.aclose())


def outcome_of(app: App, play: Callable[[Call], object], environ: Environ | None = None) -> Outcome:
    """What a callback is told of one response, played in this way.

    Whatever ``play`` raises is the app's or the server's affair.
    """
    seen = Seen()
    with new_runner() as runner:
        call = Call(AfterResponseMiddleware(app, runner=runner, callbacks=[seen]), environ)
        try:
            play(call)
        except BaseException:  # the test looks at the outcome
            pass
        outcome = seen.one()
        drain(runner)
    return outcome


def in_thread(function: Callable[[], object], *, name: str = "server") -> threading.Thread:
    """Run it in a thread of the server; join with ``joined``."""
    thread = threading.Thread(target=function, name=name, daemon=True)
    thread.start()
    return thread


def joined(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive(), f"{thread.name} hangs"
