"""Looks at what carries one response, and tells how far it got.

The kernel knows nothing of responses, but how many bytes were ever written to a
socket. So the position where this response ends is noted here, in the thread
that writes, when nothing else was written yet; what the process still keeps
counts. From then on the kernel alone is asked, in any thread.
"""

import asyncio
import errno
import weakref
from typing import Any

from ..runtime import running_loop
from .levels import Connection, Delivery
from .tcp import Socket


class Known:
    """What is known for good."""

    __slots__ = ("_delivery",)

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def look(self) -> tuple[Delivery, bool]:
        return self._delivery, False


THROWN_AWAY = Known(Delivery.NONE)
"""The server had lost the client before it was given all of the response."""


def by_socket(descriptor: int) -> Connection:
    """Of a server that writes to the socket itself, and has done so: the kernel has all."""
    return in_kernel(descriptor) or Known(Delivery.FLUSHED)


def by_transport(transport: Any, loop: asyncio.AbstractEventLoop) -> Connection | None:
    """Of a transport of asyncio or uvloop, in the thread of its loop: nowhere else
    is it known where the response ends. With TLS its buffer is not the only one."""
    if running_loop() is not loop:
        return None
    if transport.get_extra_info("sslcontext") is not None or _may_have_dropped(transport):
        return None
    descriptor: int = transport.get_extra_info("socket").fileno()
    buffered: int = transport.get_write_buffer_size()
    return in_kernel(descriptor, buffered) or _InProcess(transport, loop)


def _may_have_dropped(transport: Any) -> bool:
    """Whether it may have thrown away some of what was written to it.

    A transport that has lost its connection, or had nothing left to send when it
    was closed, takes everything and drops it; asyncio's counts how often, after a 1
    for the loss. uvloop's does not tell.
    """
    if not transport.is_closing():
        return False
    lost = getattr(transport, "_conn_lost", None)
    return lost is None or lost > 1


def in_kernel(descriptor: int, buffered: int = 0, at_least: int = 1) -> Connection | None:
    """``None`` where the kernel does not tell. ``buffered``: bytes that the process has
    not given to it yet; ``at_least``: raise ``ValueError`` if fewer were ever written."""
    if descriptor < 0:
        raise OSError(errno.EBADF, "the socket is closed")
    try:
        socket = Socket(descriptor)
        reading = socket.read()
    except OSError:
        return None
    if reading is None:
        return None
    end = reading.position + buffered
    if end < at_least:
        raise ValueError("not all was written to this connection")
    if reading.is_open and end == reading.acknowledged:
        return Known(Delivery.ACKNOWLEDGED)
    return _InKernel(socket, end)


class _InKernel:
    """A response in a TCP stream."""

    __slots__ = ("_end", "_socket")

    def __init__(self, socket: Socket, end: int) -> None:
        self._socket = socket
        self._end = end
        """The position in the stream behind its last byte."""

    def look(self) -> tuple[Delivery, bool]:
        try:
            reading = self._socket.read()
        except OSError:
            return Delivery.HANDED, False
        if reading is None:
            return Delivery.HANDED, True
        if not reading.is_open or reading.position > self._end:
            # Ended, or the bytes of a later response are there.
            return Delivery.HANDED, False
        if reading.position < self._end:
            # The process still keeps the rest, or has thrown it away.
            return Delivery.HANDED, True
        if reading.queued:
            return Delivery.FLUSHED, True
        return Delivery.ACKNOWLEDGED, False


class _InProcess:
    """Where the kernel does not tell, the process still knows what it keeps."""

    __slots__ = ("_loop", "_transport")

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = weakref.ref(transport)
        self._loop = weakref.ref(loop)

    def look(self) -> tuple[Delivery, bool]:
        transport = self._transport()
        if transport is None or transport.is_closing():
            # A transport that has lost its connection empties its buffer too.
            return Delivery.HANDED, False
        # In another thread the buffer is seen in the middle of a change.
        if running_loop() is not self._loop() or transport.get_write_buffer_size():
            return Delivery.HANDED, True
        return Delivery.FLUSHED, False
