"""What the kernel and a server's private parts tell of a connection, with real sockets."""

import functools
import os
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from async_after._core.delivery import Connection, Delivery, probes
from async_after._core.delivery.connections import by_socket
from async_after._core.delivery.tcp import Reading, Socket

from ..conftest import DEADLINE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")

Ends = tuple[socket.socket, socket.socket]
BIG = b"x" * 100_000
"""What the kernel takes at once, and a small receive buffer does not."""


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The server's and the client's, whose receive buffer is small."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = stack.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(DEADLINE)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        yield stack.enter_context(server), client


def settled(known: Socket, expected: Reading) -> bool:
    """Whether the peer's kernel makes it so in time."""
    deadline = time.monotonic() + DEADLINE
    while known.read() != expected:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def take(client: socket.socket, size: int) -> None:
    while size:
        size -= len(client.recv(size))


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


# The kernel.


def test_acknowledged_bytes(ends: Ends) -> None:
    server, client = ends
    known = Socket(server.fileno())
    assert known.read() == Reading(is_open=True, acknowledged=0, queued=0)
    server.sendall(b"x" * 100)
    assert settled(known, Reading(True, 100, 0)), "though the client has read nothing"
    server.sendall(BIG)
    reading = known.read()
    assert reading is not None
    assert reading.queued > 0
    assert reading.position == 100 + len(BIG)
    take(client, 100 + len(BIG))
    assert settled(known, Reading(True, 100 + len(BIG), 0))


def test_a_client_that_has_half_closed_still_acknowledges(ends: Ends) -> None:
    server, client = ends
    known = Socket(server.fileno())
    client.shutdown(socket.SHUT_WR)
    server.sendall(b"x")
    assert settled(known, Reading(True, 1, 0))


@pytest.mark.parametrize("how", ["the client resets", "the server shuts down"])
def test_what_is_ended_is_not_open(ends: Ends, how: str) -> None:
    server, client = ends
    known = Socket(server.fileno())
    if how == "the client resets":
        reset(client)
    else:
        server.shutdown(socket.SHUT_WR)
    reading = known.read()
    assert reading is not None
    assert not reading.is_open


@pytest.mark.parametrize("next_one", ["nothing", "a file", "a socket"])
def test_a_closed_descriptor(ends: Ends, next_one: str) -> None:
    server, _ = ends
    number = server.fileno()
    known = Socket(number)
    server.close()
    with ExitStack() as stack:
        if next_one == "a file":
            file = stack.enter_context(Path(os.devnull).open())
            assert file.fileno() == number
        elif next_one == "a socket":
            assert stack.enter_context(socket.socket()).fileno() == number
        with pytest.raises(OSError, match=r"closed|Bad file descriptor"):
            known.read()


def test_the_fin_is_not_held_back(ends: Ends) -> None:
    server, client = ends
    connection = by_socket(_sent(server, BIG))
    server.close()
    take(client, len(BIG))
    assert client.recv(10) == b"", "the end of the connection"
    assert connection.look() == (Delivery.HANDED, False)


# A response in the stream.


def _sent(server: socket.socket, data: bytes) -> int:
    server.sendall(data)
    return server.fileno()


def reached(connection: Connection, expected: tuple[Delivery, bool]) -> bool:
    deadline = time.monotonic() + DEADLINE
    while connection.look() != expected:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def test_the_levels_of_a_response(ends: Ends) -> None:
    server, client = ends
    connection = by_socket(_sent(server, BIG))
    assert connection.look() == (Delivery.FLUSHED, True)
    take(client, len(BIG))
    assert reached(connection, (Delivery.ACKNOWLEDGED, False))
    server.sendall(b"x")
    assert connection.look() == (Delivery.HANDED, False), "a later response is there"


def test_what_the_client_resets_is_lost(ends: Ends) -> None:
    server, client = ends
    connection = by_socket(_sent(server, BIG))
    reset(client)
    assert connection.look() == (Delivery.HANDED, False)


def test_a_unix_socket() -> None:
    server, client = socket.socketpair()
    with server, client:
        assert by_socket(_sent(server, b"x")).look() == (Delivery.FLUSHED, False)


def test_elsewhere_than_on_linux(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = _sent(ends[0], b"x")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        assert by_socket(descriptor).look() == (Delivery.FLUSHED, False)


# What a server shows, and what it may show some day.


def test_gunicorns_socket(ends: Ends) -> None:
    server, _ = ends
    server.sendall(b"x")
    connection = probes.of_environ({"gunicorn.socket": server})
    assert connection is not None
    assert reached(connection, (Delivery.ACKNOWLEDGED, False))


def test_gunicorns_socket_before_anything_was_sent(ends: Ends) -> None:
    assert probes.of_environ({"gunicorn.socket": ends[0]}) is None


def test_gunicorns_socket_with_http_2(ends: Ends) -> None:
    server, _ = ends
    server.sendall(b"x")
    environ = {"gunicorn.socket": server, "gunicorn.http2.send_trailers": print}
    assert probes.of_environ(environ) is None


def test_gunicorns_socket_with_tls(ends: Ends) -> None:
    server, _ = ends
    server.sendall(b"x")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with context.wrap_socket(
        server, do_handshake_on_connect=False, server_hostname="test"
    ) as wrapped:
        assert probes.of_environ({"gunicorn.socket": wrapped}) is None


def test_gunicorns_socket_that_is_closed(ends: Ends) -> None:
    server, _ = ends
    server.close()
    assert probes.of_environ({"gunicorn.socket": server}) is None


def test_gunicorns_socket_while_an_error_passes_by(ends: Ends) -> None:
    """gunicorn calls ``close()`` while what has ended a body or a file in the middle is
    on its way."""
    server, _ = ends
    server.sendall(b"x")
    try:
        raise OSError("the disk has failed")
    except OSError:
        assert probes.of_environ({"gunicorn.socket": server}) is None
    assert probes.of_environ({"gunicorn.socket": server}) is not None


class _Hostile:
    @property
    def __module__(self) -> str:  # type: ignore[override]
        raise RuntimeError("not even that")

    async def __call__(self, message: object) -> None: ...


class _Cycle:
    """What has the name of uvicorn's, and is another thing."""

    async def send(self, message: object) -> None: ...


_Cycle.send.__module__ = "uvicorn.protocols.http.httptools_impl"


async def _plain(message: object) -> None: ...


@pytest.mark.parametrize("module", sorted(probes._OF_SEND))
def test_a_send_of_another_shape(module: str) -> None:
    async def send(message: object) -> None: ...

    send.__module__ = module
    assert probes.of_send(send) is None


@pytest.mark.parametrize(
    "send",
    [_plain, functools.partial(_plain), _Hostile(), _Cycle().send],
    ids=["function", "partial", "hostile", "method"],
)
def test_a_send_of_nobody(send: Any) -> None:
    assert probes.of_send(send) is None


@pytest.mark.parametrize("environ", [{}, {"gunicorn.socket": None}, {"uwsgi.version": b"2"}])
def test_an_environ_of_another_shape(environ: dict[str, Any]) -> None:
    assert probes.of_environ(environ) is None
