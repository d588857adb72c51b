"""What ``Outcome.delivery`` and ``wait_delivered_sync`` say, on every WSGI server,
against what the client's kernel has received.

``python -m pytest tests/wsgi/test_delivery.py -n 0 -s -k gthread`` prints the table of one
server.
"""

import asyncio
import queue
from collections.abc import Iterable
from typing import Any, cast

import pytest

from async_after import Callback, Runner, after_response
from async_after._core.delivery import Delivery, probes
from async_after.wsgi import AfterResponseMiddleware

from ..required import is_required
from ..servers import launch
from ..servers.client import DEADLINE
from ..servers.delivery.peer import Peer
from ..servers.delivery.table import Line, lines_of, shown, table
from ..servers.launch import Command, Config
from .harness import Server
from .matrix import why_missing

APP = "tests.servers.delivery.wsgi:application"

_COMMANDS = cast(dict[str, Command], launch.SERVERS)
RUNSERVER = "delivery-runserver"


def servers_named(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("config", [*map(_parameter, names)])


def _parameter(name: str, *args: str) -> Any:
    needs = next((n for n in ("uwsgi", "mod_wsgi") if name.startswith(n)), None)
    marks = []
    if needs is not None:
        marks.append(getattr(pytest.mark, needs))
        why = why_missing(needs)
        if why is not None and not is_required(needs):
            marks.append(pytest.mark.skip(reason=why))
    return pytest.param(Config(APP, server=name, args=args), marks=marks, id=name)


@pytest.fixture(autouse=True)
def runserver(monkeypatch: pytest.MonkeyPatch) -> None:
    command = Command("tests.servers.delivery.manage {app} {host}:{port}", ready="", port=None)
    monkeypatch.setitem(_COMMANDS, RUNSERVER, command)


def of(lines: Iterable[Line], client: str) -> list[Line]:
    return [line for line in lines if line.client == client]


@servers_named("gunicorn-gthread", "gunicorn-gevent")
def test_a_server_that_keeps_the_connection(server: Server) -> None:
    lines = table(server)
    for line in of(lines, "reads all"):
        assert line.waited is Delivery.ACKNOWLEDGED, line


@servers_named("gunicorn-sync", "uwsgi", "uwsgi-threadless")
def test_a_server_that_closes_the_connection(server: Server) -> None:
    """Nothing is seen of it after ``close()``; until then the kernel has taken all."""
    lines = table(server)
    for line in of(lines, "reads all"):
        assert line.sealed >= Delivery.FLUSHED, line


@servers_named(
    "waitress",
    "cheroot",
    "granian-wsgi",
    "hypercorn-wsgi",
    "uwsgi-keep-alive",
    RUNSERVER,
    "mod_wsgi",
)
def test_a_server_that_shows_none(server: Server) -> None:
    lines = [*lines_of(server)]
    print(shown(str(server.config), lines))
    for line in lines:
        expected = Delivery.HANDED if line.completion == "SENT" else Delivery.NONE
        assert line.sealed is line.waited is expected, line


@servers_named("uwsgi", "gunicorn-gthread")
def test_a_response_without_any_part(server: Server) -> None:
    """uWSGI sends its headers after ``close()``: before, all that the kernel was given
    may be acknowledged, and is the response before."""
    ident = server.new_ident()
    with Peer(server.port) as peer:
        if server.config.server != "uwsgi":  # it ends each connection
            peer.ask(f"/{server.new_ident()}?sizes=1000")
            peer.read_response()
        peer.ask(f"/{ident}?sizes=0&thread&wait={DEADLINE}")
        for event in ("sealed", "waited"):
            (told,) = server.wait(ident, event)
            assert told["delivery"] == "HANDED"
        peer.read_response()


@pytest.mark.parametrize("config", [_parameter("uwsgi", "--socket-timeout", "1")])
def test_uwsgi_gives_up_a_client_that_does_not_read(server: Server) -> None:
    """And tells nobody: the kernel has all that it was given, and it was not given all."""
    ident = server.new_ident()
    with Peer(server.port, 4096) as peer:
        peer.ask(f"/{ident}?sizes=8000000&thread&wait={DEADLINE}")
        for event in ("sealed", "waited"):
            (told,) = server.wait(ident, event)
            assert told["delivery"] == "NONE"
        (told,) = server.events(ident, "sealed")
        assert told["completion"] == "DISCONNECTED"
        assert "uwsgi_response_write_body_do() TIMEOUT" in server.stderr()
        peer.until_eof()
        assert peer.total < 8_000_000


@servers_named("uwsgi", "gunicorn-gthread")
def test_an_empty_part_takes_the_headers_along(server: Server) -> None:
    ident = server.new_ident()
    with Peer(server.port) as peer:
        peer.ask(f"/{ident}?sizes=0,0&gate=middle")
        assert peer.read_response() > 0, "the headers, while the app has not returned"
        server.release(ident)
        (told,) = server.wait(ident, "sealed")
        assert told["delivery"] == "ACKNOWLEDGED"


@servers_named("gunicorn-gthread")
def test_a_later_response_hides_an_earlier_one(server: Server) -> None:
    first, second = server.new_ident(), server.new_ident()
    with Peer(server.port, 4096) as peer:
        peer.ask(f"/{first}?sizes=300000&thread&wait={DEADLINE}")
        (told,) = server.wait(first, "sealed")
        assert told["delivery"] == "FLUSHED"
        assert not server.events(first, "waited")
        peer.ask(f"/{second}?sizes=1000&thread&wait={DEADLINE}")
        (told,) = server.wait(first, "waited")
        assert told["delivery"] == "FLUSHED", "what was seen, and no more"
        peer.read_response()
        peer.read_response()
        (told,) = server.wait(second, "waited")
        assert told["delivery"] == "ACKNOWLEDGED"


def test_no_probe_is_looked_for_unless_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_for: list[object] = []
    monkeypatch.setattr(probes, "of_environ", looked_for.append)
    runner = Runner()
    ran: queue.Queue[None] = queue.Queue()
    callbacks: list[Callback[Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        match environ["PATH_INFO"]:
            case "/registers":
                callbacks.append(after_response(ran.put, None))
            case "/asks":
                callbacks.append(after_response.using(when="success")(ran.put, None))
        start_response("200 OK", [])
        return [b"body"]

    def serve(path: str) -> None:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path}
        body: Any = wrapped(environ, lambda status, headers: print)
        assert b"".join(body) == b"body"
        body.close()

    wrapped = AfterResponseMiddleware(app, runner=runner)
    for path, expected in (("/", 0), ("/registers", 0), ("/asks", 1)):
        serve(path)
        if path != "/":
            ran.get(timeout=DEADLINE)
        assert len(looked_for) == expected, path
    # Asked for when it is too late: the socket may be at another response by then.
    plain, _ = callbacks
    assert plain.outcome is not None
    assert plain.outcome.delivery is Delivery.HANDED
    assert len(looked_for) == 1
    asyncio.run(runner.aclose())
