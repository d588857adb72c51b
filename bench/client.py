"""The client: raw blocking sockets, and httptools to say when a response is complete."""

import socket
from time import perf_counter

import httptools


def request(path: str, *, close: bool = False) -> bytes:
    """A GET as a browser's fetch would send it, shortened."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "User-Agent: async-after-bench",
        "Accept: application/json",
        "Accept-Encoding: gzip, deflate",
        *(["Connection: close"] if close else []),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Connection:
    """One connection, used for one request at a time."""

    def __init__(self, port: int, *, timeout: float = 30) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._parser = httptools.HttpResponseParser(self)
        self._is_complete = False
        self._body: list[bytes] = []

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    # What the parser calls.

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        self._is_complete = True

    def complete(self, sent: bytes) -> float:
        """Seconds from sending a request to its complete response."""
        self._is_complete = False
        self._body = []
        began = perf_counter()
        self._socket.sendall(sent)
        while not self._is_complete:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the server closed the connection before the response")
            self._parser.feed_data(data)
        ended = perf_counter()
        if self._parser.get_status_code() != 200:
            raise ConnectionError(f"the server answered {self._parser.get_status_code()}")
        return ended - began

    def eof(self, sent: bytes) -> float:
        """Seconds from sending a request with ``Connection: close`` to the end of the stream."""
        began = perf_counter()
        self.complete(sent)
        if self._socket.recv(65536):
            raise ConnectionError("the server sent more than the response")
        return perf_counter() - began

    def get(self, path: str) -> bytes:
        """The body of a response, when time does not matter."""
        self.complete(request(path))
        return b"".join(self._body)
