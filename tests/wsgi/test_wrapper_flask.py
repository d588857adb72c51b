"""Flask through the WSGI wrapper."""

import contextvars
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import FileWrapper

import flask
import pytest
from flask import Flask, copy_current_request_context, current_app, g, request, stream_with_context
from werkzeug.middleware.lint import LintMiddleware

from async_after import Completion, Outcome, Runner, after_response
from async_after.wsgi import AfterResponseMiddleware

from .wsgi_client import Call, drain, environ_for, new_runner

LANES = ["threads", "inline"]
variable = contextvars.ContextVar("flask variable", default="default")


@pytest.fixture
def runner() -> Iterator[Runner]:
    with new_runner() as runner:
        yield runner


@pytest.fixture
def app() -> Flask:
    return Flask("tested")


def call(app: Flask, runner: Runner, path: str, lane: Any = "threads", **environ: Any) -> Call:
    app.wsgi_app = AfterResponseMiddleware(app.wsgi_app, runner=runner, lane=lane)  # type: ignore[method-assign]
    result = Call(app, environ_for(path, **environ)).run()
    drain(runner)
    return result


@pytest.mark.parametrize("lane", LANES)
def test_a_view(lane: Any, app: Flask, runner: Runner) -> None:
    ran: list[object] = []

    def callback() -> None:
        ran.append(("plain", variable.get()))

    async def acallback(outcome: Outcome) -> None:
        ran.append(("coroutine", variable.get()))
        ran.append((outcome.completion, outcome.status, outcome.path, outcome.body_bytes))

    @app.post("/page/<name>")
    def view(name: str) -> tuple[str, int]:
        variable.set(name)
        after_response(callback)
        after_response.using(takes_outcome=True)(acallback)
        return "hello", 201

    result = call(app, runner, "/page/fr\xc3\xa9d", lane, REQUEST_METHOD="POST")
    assert result.content == b"hello"
    assert ran == [
        ("plain", "fréd"),
        ("coroutine", "fréd"),
        (Completion.SENT, 201, "/page/fréd", 5),
    ]


@pytest.mark.parametrize("lane", LANES)
def test_the_request_is_there_if_it_is_copied(lane: Any, app: Flask, runner: Runner) -> None:
    """Flask's own way to take it into other threads. Without it, it is over: the context
    of the registration holds Flask's, which has been torn down."""
    ran: list[object] = []

    @app.get("/page")
    def view() -> str:
        g.name = "g"

        @copy_current_request_context
        def copied() -> None:
            ran.append((request.path, request.args["a"], current_app.name))

        after_response(copied)
        after_response(after_it)
        return "ok"

    def after_it() -> None:
        ran.append("after it")

    call(app, runner, "/page", lane, QUERY_STRING="a=1")
    assert ran == [("/page", "1", "tested"), "after it"]
    assert not flask.has_request_context()


@pytest.mark.parametrize("lane", LANES)
def test_the_app_context_can_be_pushed(lane: Any, app: Flask, runner: Runner) -> None:
    ran: list[str] = []

    def callback() -> None:
        with app.app_context():
            ran.append(current_app.name)

    @app.get("/page")
    def view() -> str:
        after_response(callback)
        return "ok"

    call(app, runner, "/page", lane)
    assert ran == ["tested"]


@pytest.mark.parametrize("lane", LANES)
def test_a_stream_registers(lane: Any, app: Flask, runner: Runner) -> None:
    ran: list[str] = []

    @app.get("/page")
    def view() -> flask.Response:
        def parts() -> Iterator[str]:
            yield request.path
            after_response(ran.append, "in the stream")
            yield "end"

        response = flask.Response(stream_with_context(parts()))
        response.call_on_close(lambda: after_response(ran.append, "on close"))
        return response

    assert call(app, runner, "/page", lane).content == b"/pageend"
    assert ran == ["in the stream", "on close"]


def test_a_cut_stream(app: Flask, runner: Runner) -> None:
    seen: list[Outcome] = []

    @app.get("/page")
    def view() -> flask.Response:
        after_response.using(takes_outcome=True)(seen.append)
        return flask.Response(stream_with_context(iter("abc")))

    app.wsgi_app = AfterResponseMiddleware(app.wsgi_app, runner=runner)  # type: ignore[method-assign]
    cut = Call(app).begin()
    cut.step()
    cut.close()
    drain(runner)
    assert [outcome.completion for outcome in seen] == [Completion.DISCONNECTED]


@pytest.mark.parametrize("lane", LANES)
def test_a_view_that_raises_is_answered(lane: Any, app: Flask, runner: Runner) -> None:
    """Flask answers 500 itself: the error does not leave the app."""
    seen: list[Outcome] = []
    ran: list[str] = []

    @app.get("/page")
    def view() -> str:
        after_response.using(takes_outcome=True)(seen.append)
        after_response.using(when="success")(ran.append, "never")
        raise LookupError

    result = call(app, runner, "/page", lane)
    assert result.status == "500 INTERNAL SERVER ERROR"
    [outcome] = seen
    assert ran == []
    assert (outcome.completion, outcome.status, outcome.error) == (Completion.SENT, 500, None)


@pytest.mark.parametrize("lane", LANES)
def test_a_view_that_raises_to_the_server(lane: Any, app: Flask, runner: Runner) -> None:
    seen: list[Outcome] = []
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.get("/page")
    def view() -> str:
        after_response.using(takes_outcome=True)(seen.append)
        raise LookupError

    with pytest.raises(LookupError) as raised:
        call(app, runner, "/page", lane)
    drain(runner)
    [outcome] = seen
    assert (outcome.completion, outcome.status) == (Completion.FAILED, None)
    assert outcome.error is raised.value


def test_not_found_and_hooks(app: Flask, runner: Runner) -> None:
    ran: list[object] = []

    @app.before_request
    def before() -> None:
        after_response.using(takes_outcome=True)(lambda outcome: ran.append(outcome.status))

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        after_response(ran.append, "teardown")

    assert call(app, runner, "/nowhere").status == "404 NOT FOUND"
    assert ran == [404, "teardown"]


def test_send_file(app: Flask, runner: Runner) -> None:
    """By ``wsgi.file_wrapper``: the server gets its own object."""
    seen: list[Outcome] = []

    @app.get("/page")
    def view() -> flask.Response:
        after_response.using(takes_outcome=True)(seen.append)
        return flask.send_file(io.BytesIO(b"x" * 100), mimetype="text/plain")

    app.wsgi_app = AfterResponseMiddleware(app.wsgi_app, runner=runner)  # type: ignore[method-assign]
    file = Call(app, environ_for(**{"wsgi.file_wrapper": FileWrapper})).begin()
    assert type(file.body) is FileWrapper
    file.close()
    drain(runner)
    assert [outcome.body_bytes for outcome in seen] == [None]
    # Where the server has none, Flask iterates.
    assert Call(app).run().content == b"x" * 100
    drain(runner)
    assert [outcome.body_bytes for outcome in seen] == [None, 100]


@pytest.mark.parametrize("lane", LANES)
def test_flasks_test_client(lane: Any, app: Flask, runner: Runner) -> None:
    """It keeps the request's context open (``with client``), and closes late."""
    threads: list[threading.Thread] = []

    @app.get("/page")
    def view() -> str:
        after_response(lambda: threads.append(threading.current_thread()))
        return "ok"

    app.wsgi_app = AfterResponseMiddleware(app.wsgi_app, runner=runner, lane=lane)  # type: ignore[method-assign]
    with app.test_client() as client:
        for _ in range(2):
            response = client.get("/page", buffered=True)
            assert response.text == "ok"
            assert request.path == "/page"
    drain(runner)
    assert len(threads) == 2
    assert (threading.current_thread() in threads) is (lane == "inline")


def test_werkzeugs_lint(app: Flask, runner: Runner) -> None:
    """Another judge of PEP 3333, on both sides; it warns of what it does not like."""

    @app.get("/page")
    def view() -> str:
        return "ok"

    flask_app: Callable[..., Any] = app.wsgi_app
    linted = LintMiddleware(AfterResponseMiddleware(LintMiddleware(flask_app), runner=runner))
    assert Call(linted).run().content == b"ok"
