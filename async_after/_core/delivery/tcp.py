"""What Linux' kernel knows of a TCP connection: ``SIOCOUTQ`` and ``TCP_INFO`` (tcp(7)).

It is asked by descriptor. That is the server's: it may be closed at any moment,
by any thread, and the next socket gets its number. So a socket is known by its
inode too, which no other one has, and nothing here keeps it open: another
descriptor of it would hold its FIN back.
"""

import errno
import os
import struct
import sys
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

if sys.platform == "linux":
    from fcntl import ioctl

_SIOCOUTQ = 0x5411
"""linux/sockios.h"""
_IPPROTO_TCP, _TCP_INFO = 6, 11
_BYTES_ACKED_AT = 120
"""Where that stands in ``struct tcp_info`` (linux/tcp.h, since Linux 4.1)."""
_INFO_SIZE = 128
_OPEN_STATES = frozenset({1, 8})
"""ESTABLISHED and CLOSE_WAIT (net/tcp_states.h)."""
_ATTEMPTS = 20


class Reading(NamedTuple):
    """Of one moment."""

    is_open: bool
    """Nobody has reset it, and the server has not ended its side."""
    acknowledged: int
    """Bytes that the peer's kernel has acknowledged since the connection began."""
    queued: int
    """Bytes in our kernel that it has not."""

    @property
    def position(self) -> int:
        """How many bytes were ever written to the socket."""
        return self.acknowledged + self.queued


class Socket:
    """A socket that somebody else may close. Raises ``OSError`` if it is closed."""

    __slots__ = ("_descriptor", "_inode")

    def __init__(self, descriptor: int) -> None:
        if sys.platform != "linux":
            raise OSError(errno.ENOTSUP, "only Linux tells")
        self._descriptor = descriptor
        self._inode = os.fstat(descriptor).st_ino

    def read(self) -> Reading | None:
        """``None`` while acknowledgements come in too fast for that. Raises
        ``OSError`` if it is closed, or if it is no TCP socket."""
        descriptor, before = self._descriptor, None
        self._refuse_another()
        for _ in range(_ATTEMPTS):
            # Two questions: what is acknowledged between them is in both answers,
            # unless there was nothing left.
            queued = _queued(descriptor)
            found = _state_and_acknowledged(descriptor)
            if not queued or found == before:
                self._refuse_another()
                state, acknowledged = found
                return Reading(state in _OPEN_STATES, acknowledged, queued)
            before = found
        return None

    def _refuse_another(self) -> None:
        if os.fstat(self._descriptor).st_ino != self._inode:
            raise OSError(errno.EBADF, "the socket is closed, and its descriptor is another's")


def _queued(descriptor: int) -> int:
    (queued,) = struct.unpack("i", ioctl(descriptor, _SIOCOUTQ, bytes(4)))
    return int(queued)


def _state_and_acknowledged(descriptor: int) -> tuple[int, int]:
    info = _getsockopt()(descriptor)
    (acknowledged,) = struct.unpack_from("Q", info, _BYTES_ACKED_AT)
    return info[0], int(acknowledged)


@cache
def _getsockopt() -> Callable[[int], bytes]:
    """``TCP_INFO`` by C. Python's own needs a socket object, and one that is made
    of a descriptor closes it when it goes."""
    import ctypes

    getsockopt = ctypes.CDLL(None, use_errno=True).getsockopt

    def info(descriptor: int) -> bytes:
        found = ctypes.create_string_buffer(_INFO_SIZE)
        size = ctypes.c_uint32(_INFO_SIZE)
        if getsockopt(descriptor, _IPPROTO_TCP, _TCP_INFO, found, ctypes.byref(size)):
            raise OSError(ctypes.get_errno(), "getsockopt(TCP_INFO)")
        if size.value < _INFO_SIZE:
            raise OSError(errno.ENOTSUP, "this kernel does not count acknowledged bytes")
        return found.raw

    return info
