"""What the clients of the loss table do: raw sockets, some of which behave badly."""

import re
import socket
import struct
from types import TracebackType
from typing import Self

from ..client import request

TIMEOUT = 30.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Visit:
    """One request, sent at once, on a connection of its own."""

    def __init__(self, port: int, path: str, *, close: bool = True) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self._received = b""
        self._socket.sendall(request(path, close=close))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()

    def read_response(self) -> None:
        """Until it is complete: by its Content-Length, or by the end of the stream."""
        while not self._is_complete() and self._receive():
            pass

    def read_beginning(self) -> None:
        """The head and something of the body."""
        while not self._received.partition(b"\r\n\r\n")[2] and self._receive():
            pass

    def leave(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Close with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _receive(self) -> bool:
        data = self._socket.recv(65_536)
        self._received += data
        return bool(data)

    def _is_complete(self) -> bool:
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return bool(separator and length) and len(body) >= int(length[1] if length else 0)
