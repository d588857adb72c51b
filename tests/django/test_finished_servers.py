"""``response_finished`` and ``then`` under uvicorn and gunicorn, wrapped and with
the Django middleware alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.harness import Server, wait_until
from tests.servers.launch import Config

from . import finished

PARTS = 65_536 * 2
BODIES: dict[str, bytes | int] = {
    "plain": b"plain",
    "aplain": b"aplain",
    "json": b'{"json": true}',
    "function": b"function",
    "rest": b'{"rest":true}',
    "file": (Path(finished.__path__[0]) / "views.py").read_bytes(),
    "stream": PARTS,
    "astream": PARTS,
}
RESPONSES = {
    "plain": "HttpResponseThen",
    "aplain": "HttpResponseThen",
    "json": "JsonResponseThen",
    "function": "HttpResponse",
    "rest": "ResponseThen",
    "file": "FileResponseThen",
    "stream": "StreamingHttpResponseThen",
    "astream": "StreamingHttpResponseThen",
}


UVICORN = [("uvicorn", "wrapped"), ("uvicorn", "alone")]
GUNICORN = [("gunicorn-gthread", "wrapped"), ("gunicorn-gthread", "alone")]


@pytest.fixture(scope="module", params=[*UVICORN, *GUNICORN], ids="-".join)
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    server_processes: None,
) -> Iterator[Server]:
    name, mode = request.param
    module = "asgi" if name == "uvicorn" else "wsgi"
    config = Config(
        f"tests.django.finished.{module}:application",
        server=name,
        env=(("ASYNC_AFTER_FINISHED", mode),),
    )
    server = Server(config, tmp_path_factory.mktemp("finished"))
    yield server
    try:
        server.check()
    finally:
        server.stop()


def heard(server: Server, ident: str) -> dict[str, Any]:
    """What both receivers have heard, once."""
    both = []
    for name in ("heard", "aheard"):
        [event] = server.wait(ident, name)
        both.append({key: event[key] for key in ("response", "completion", "status", "error")})
    assert both[0] == both[1]
    return both[0]


@pytest.mark.parametrize("view", BODIES)
def test_each_response(server: Server, view: str) -> None:
    ident, expected = server.new_ident(), BODIES[view]
    response = server.get(f"/{view}/{ident}")
    body = response.body
    assert (len(body) if isinstance(expected, int) else body) == expected
    server.wait(ident, "then")
    assert heard(server, ident) == {
        "response": RESPONSES[view],
        "completion": "SENT",
        "status": response.status,
        "error": "NoneType",
    }


def test_a_view_that_raises(server: Server) -> None:
    ident = server.new_ident()
    assert server.get(f"/raises/{ident}").status == 500
    assert heard(server, ident) == {
        "response": "HttpResponseServerError",
        "completion": "SENT",
        "status": 500,
        "error": "LookupError",
    }
    server.wait(ident, "then")  # it belongs to the exchange


def test_a_receiver_holds_neither_the_response_up_nor_the_next_one(server: Server) -> None:
    first, second = server.new_ident(), server.new_ident()
    with server.connect() as client:
        assert client.get(f"/plain/{first}?gated").body == b"plain"
        server.wait(first, "gate")
        server.wait(first, "then")
        assert client.get(f"/plain/{second}").body == b"plain"
        heard(server, second)
    assert not server.events(first, "heard")
    server.release(first)
    heard(server, first)


def test_a_receiver_that_fails_is_named_in_the_log(server: Server) -> None:
    ident = server.new_ident()
    assert server.get(f"/plain/{ident}?fail").body == b"plain"
    heard(server, ident)
    line = f"callback tests.django.finished.views.fail of GET /plain/{ident} (200) failed"
    wait_until(lambda: line in server.stderr(), server.report)
    wait_until(lambda: "this receiver always fails" in server.stderr(), server.report)


def test_a_client_that_leaves_in_the_middle_of_a_stream(server: Server) -> None:
    ident = server.new_ident()
    view = "stream" if "wsgi" in server.config.app else "astream"
    client = server.connect(receive_buffer=4096)
    client.send(f"/{view}/{ident}?parts=1000")
    client.head()
    client.reset()
    found = heard(server, ident)
    assert found["response"] == "StreamingHttpResponseThen"
    assert found["completion"] == "DISCONNECTED"
    server.wait(ident, "then")


@pytest.mark.parametrize("server", UVICORN, indirect=True, ids="-".join)
def test_a_client_that_leaves_while_the_view_runs(server: Server) -> None:
    ident = server.new_ident()
    client = server.connect()
    client.send(f"/slow/{ident}")
    server.wait(ident, "in view")
    client.reset()
    found = heard(server, ident)
    assert found["response"] is found["status"] is None
    assert found["completion"] == "DISCONNECTED"
    assert not server.events(ident, "then")
