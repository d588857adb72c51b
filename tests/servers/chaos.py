"""Clients that close, reset and stall at random, from one seed.

Asynchronous, so that one thread plays many of them at once.
"""

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from itertools import count

from .client import DEADLINE
from .launch import HOST

AT_ONCE = 40


class Visitor:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, port: int, *, receive_buffer: int | None = None) -> "Visitor":
        connection = socket.socket()
        connection.setblocking(False)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(connection, (HOST, port))
        limit = 65_536 if receive_buffer is None else 1024
        return cls(*await asyncio.open_connection(sock=connection, limit=limit))

    def ask(self, *targets: str, close: bool = False) -> None:
        request = "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        end = "Connection: close\r\n\r\n" if close else "\r\n"
        self.writer.write("".join(request.format(target) + end for target in targets).encode())

    async def read(self) -> int:
        """One response; its status."""
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        if headers.get("transfer-encoding") == "chunked":
            size = None
            while size != 0:
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                await self.reader.readexactly(size + 2)
        else:
            await self.reader.readexactly(int(headers["content-length"]))
        return int(first.split()[1])

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass

    async def reset(self) -> None:
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        await self.close()


class Chaos:
    """``run`` sends so many requests, and cares for few of the responses."""

    def __init__(self, port: int, target: Callable[[random.Random, str], str], seed: int) -> None:
        self._port = port
        self._target = target
        self._random = random.Random(seed)
        self._idents = count(1)
        self._left = 0
        self._over = asyncio.Event()
        """The others have all gone: those that stall may go too."""
        self._stalled: set[asyncio.Task[None]] = set()

    async def run(self, requests: int) -> None:
        self._left = requests
        async with asyncio.timeout(3 * DEADLINE), asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._visit_until_none_is_left())
        self._over.set()
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*self._stalled)

    async def _visit_until_none_is_left(self) -> None:
        while self._left > 0:
            number = min(self._left, self._random.choice((1, 1, 1, 2, 5)))
            self._left -= number
            targets = [self._target(self._random, f"c{next(self._idents)}") for _ in range(number)]
            way = self._random.choice(_WAYS)
            if way is stalls and len(self._stalled) < AT_ONCE:
                task = asyncio.create_task(self._stall(targets))
                self._stalled.add(task)
            else:
                await self._visit(way, targets)

    async def _visit(self, way: "Way", targets: list[str]) -> None:
        visitor = await Visitor.to(self._port)
        try:
            await way(visitor, targets, self._random)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the server has closed the connection
        finally:
            await visitor.close()

    async def _stall(self, targets: list[str]) -> None:
        visitor = await Visitor.to(self._port, receive_buffer=2048)
        visitor.ask(*targets)
        await self._over.wait()
        await self._random.choice((Visitor.close, Visitor.reset))(visitor)


async def reads(visitor: Visitor, targets: list[str], random: random.Random) -> None:
    for target in targets:
        visitor.ask(target)
        await visitor.read()


async def pipelines(visitor: Visitor, targets: list[str], random: random.Random) -> None:
    visitor.ask(*targets)
    for _ in targets:
        await visitor.read()


async def closes(visitor: Visitor, targets: list[str], random: random.Random) -> None:
    visitor.ask(*targets, close=random.random() < 0.5)
    await _a_moment(random)


async def resets(visitor: Visitor, targets: list[str], random: random.Random) -> None:
    visitor.ask(*targets)
    await _a_moment(random)
    await visitor.reset()


async def reads_a_byte(visitor: Visitor, targets: list[str], random: random.Random) -> None:
    visitor.ask(*targets)
    await visitor.reader.readexactly(1)
    await random.choice((Visitor.close, Visitor.reset))(visitor)


async def half_closes(visitor: Visitor, targets: list[str], random: random.Random) -> None:
    visitor.ask(*targets)
    visitor.writer.write_eof()
    while await visitor.reader.read(65_536):
        pass


async def stalls(visitor: Visitor, targets: list[str], random: random.Random) -> None:
    """Reads nothing, until all others have gone; see ``Chaos``. Here: for a moment."""
    visitor.ask(*targets)
    await _a_moment(random)


async def _a_moment(random: random.Random) -> None:
    await asyncio.sleep(random.choice((0.0, 0.0, 0.001, 0.005, 0.02)))


Way = Callable[[Visitor, list[str], random.Random], Awaitable[None]]
_WAYS: list[Way] = [reads, pipelines, closes, resets, reads_a_byte, half_closes, stalls]
