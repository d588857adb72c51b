"""A client that knows what its own kernel has received: the truth about delivery."""

import ctypes
import re
import socket
import struct
import time
from typing import Self

from ..client import DEADLINE
from ..launch import HOST

_SO_ATTACH_FILTER = 26
_DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
"""A filter of one instruction (linux/filter.h): return 0, keep nothing of the packet."""
_BYTES_RECEIVED_AT = 128
_FIN_RECEIVED = frozenset({8, 9, 11})
"""CLOSE_WAIT, LAST_ACK, CLOSING (net/tcp_states.h): it counts as a byte."""


class Peer:
    """One connection. ``total`` is what it has taken from its socket, in bytes."""

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self._socket = socket.socket()
        self._socket.settimeout(DEADLINE)
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.connect((HOST, port))
        self.total = 0
        self._unread = b""
        self.samples: list[tuple[float, int]] = []
        """When ``received`` was looked at, and what it was."""

    def ask(self, target: str, *headers: str) -> None:
        self._socket.sendall(request(target, *headers))

    def ask_all(self, *targets: str) -> None:
        """Without waiting for responses in between (pipelining)."""
        self._socket.sendall(b"".join(map(request, targets)))

    # Reading.

    def read(self, limit: int = 65536) -> bytes:
        """What is there; nothing at EOF."""
        data = self._unread or self._socket.recv(limit)
        self.total += 0 if self._unread else len(data)
        self._unread = b""
        return data

    def read_response(self) -> int:
        """All of one response; how many bytes it is, with its head."""
        found = bytearray()
        while (end := found.find(b"\r\n\r\n")) < 0:
            found += self._more()
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", found[:end])
        if length is not None:
            size = end + 4 + int(length[1])
            while len(found) < size:
                found += self._more()
        else:
            while (last := found.find(b"\r\n0\r\n\r\n", end)) < 0:
                found += self._more()
            size = last + 7
        self._unread = bytes(found[size:])
        return size

    def _more(self) -> bytes:
        data = self.read()
        assert data, f"the connection ended early, after {self.total} bytes"
        return data

    def until_eof(self) -> None:
        while self.read():
            pass

    # Its end.

    def deafen(self) -> None:
        """From now on its kernel receives nothing, and acknowledges nothing."""
        program = struct.pack("HL", 1, ctypes.addressof(_DROP_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def half_close(self) -> None:
        """FIN, and it goes on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        """FIN, and a reset for whatever comes then. ``received`` goes on counting."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def reset(self) -> int:
        """RST; what had been received by then."""
        self.deafen()
        received = self.received()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
        return received

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The truth.

    def received(self) -> int:
        """Bytes of responses that the kernel has received in order, and acknowledges."""
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        (received,) = struct.unpack_from("Q", info, _BYTES_RECEIVED_AT)
        received -= info[0] in _FIN_RECEIVED
        self.samples.append((time.monotonic(), received))
        return int(received)


def request(target: str, *headers: str) -> bytes:
    lines = [f"GET {target} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
    return "\r\n".join(lines).encode()
