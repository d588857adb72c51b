"""The client of ``tests/servers``, and what it needs for servers that mark the end of a
body by the end of the connection."""

import select
from typing import Self

from ..servers import client
from ..servers.client import Response

SILENCE = 0.1
"""Seconds in which a server that can answer would have done so many times."""


class Client(client.Client):
    def __enter__(self) -> Self:
        return self

    def send(
        self,
        target: str,
        *,
        method: str = "GET",
        headers: tuple[str, ...] = (),
        times: int = 1,
        version: str = "1.1",
    ) -> None:
        lines = [f"{method} {target} HTTP/{version}", "Host: 127.0.0.1", *headers, "", ""]
        self._socket.sendall("\r\n".join(lines).encode() * times)

    def response(self, method: str = "GET") -> Response:
        status, headers = self.head()
        return Response(status, headers, self.body(method, status, headers))

    def body(self, method: str, status: int, headers: dict[str, str]) -> bytes:
        if method == "HEAD" or status in (204, 304):
            return b""
        if headers.get("transfer-encoding") == "chunked":
            return b"".join(iter(self.chunk, b""))
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        return self.rest()

    def _exactly(self, size: int) -> bytes:
        """Not slower for a big body than for its parts."""
        parts = [self._unread[:size]]
        self._unread = self._unread[size:]
        left = size - len(parts[0])
        while left:
            self._more()
            parts.append(self._unread[:left])
            self._unread = self._unread[left:]
            left -= len(parts[-1])
        return b"".join(parts)

    def rest(self) -> bytes:
        """Up to EOF."""
        parts = [self._unread, *iter(self._receive, b"")]
        self._unread = b""
        return b"".join(parts)

    def some(self) -> bytes:
        """Whatever has come, at least one byte."""
        if not self._unread:
            self._more()
        found, self._unread = self._unread, b""
        return found

    def keep(self) -> bytes:
        """Read until nothing comes, not even EOF; all of it is kept for later."""
        while not self.is_silent():
            self._more()
        return self._unread

    def is_silent(self) -> bool:
        """Whether nothing comes, not even EOF."""
        return not select.select([self._socket], [], [], SILENCE)[0]
