"""A client that speaks HTTP/1.1 to a server, byte by byte."""

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from .launch import HOST

DEADLINE = 20.0
"""Seconds after which a test gives up; nothing here takes a tenth of it."""


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A connection. Reads exactly what HTTP/1.1 says is there, so that what is
    not there in time fails the test."""

    def __init__(
        self, port: int, report: Callable[[], str], receive_buffer: int | None = None
    ) -> None:
        self._report = report
        self._socket = socket.socket()
        self._socket.settimeout(DEADLINE)
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.connect((HOST, port))
        self._unread = b""

    def send(
        self, target: str, *, method: str = "GET", headers: tuple[str, ...] = (), times: int = 1
    ) -> None:
        lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
        self._socket.sendall("\r\n".join(lines).encode() * times)

    def send_all(self, *targets: str) -> None:
        """Several requests in one segment (pipelining)."""
        request = "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        self._socket.sendall("".join(map(request.format, targets)).encode())

    def get(self, target: str, *, method: str = "GET", headers: tuple[str, ...] = ()) -> Response:
        self.send(target, method=method, headers=headers)
        return self.response(method)

    def response(self, method: str = "GET") -> Response:
        status, headers = self.head()
        if method == "HEAD" or status in (204, 304):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = b"".join(iter(self.chunk, b""))
        else:
            body = self._exactly(int(headers["content-length"]))
        return Response(status, headers, body)

    def head(self) -> tuple[int, dict[str, str]]:
        first, *lines = self._until(b"\r\n\r\n").decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]), headers

    def chunk(self) -> bytes:
        size = int(self._until(b"\r\n"), 16)
        data = self._exactly(size)
        assert self._exactly(2) == b"\r\n"
        return data

    def expect_eof(self) -> None:
        assert not self._unread, self._unread
        assert self._receive() == b""

    def close(self) -> None:
        """FIN, if all has been read."""
        self._socket.close()

    def leave(self, end: str) -> None:
        """In one of these ways."""
        match end:
            case "RST":  # SO_LINGER of 0 s
                self.reset()
            case "FIN":
                self.close()
            case "half-close":
                self.half_close()

    def half_close(self) -> None:
        """FIN, but the other way stays open."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._unread:
            self._more()
        found, _, self._unread = self._unread.partition(mark)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._more()
        found, self._unread = self._unread[:size], self._unread[size:]
        return found

    def _more(self) -> None:
        data = self._receive()
        assert data, f"the connection ended early, after {self._unread!r}\n{self._report()}"
        self._unread += data

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except TimeoutError:
            raise AssertionError(
                f"nothing more in time, after {self._unread!r}\n{self._report()}"
            ) from None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
