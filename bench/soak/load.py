"""The clients of ``soak``: well-behaved ones, and those that close, reset, stall, cut and pipeline.

Each does one thing after another, drawn from its own seeded generator, until
the time is up; no step takes longer than ``PATIENCE``.
"""

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic

import httptools

PATIENCE = 20.0
CLIENTS = 24

# How often a request wants which callbacks.
_KINDS = {
    6: ["async", "sync", "at-once", "aafter", "database"],
    3: ["coroutine", "outcome", "concurrent", "more", "key", "choice", "waits", "cancelled"],
    2: ["predicate-no", "predicate-raises", "cancelled-later", "cancels-itself", "blocks"],
    1: [
        "cancels-itself-returns",
        "task-cancelled",
        "times-out-async",
        "times-out-sync",
        "recurses",
        "many",
        "blocks",
    ],
}
_VIEWS = {
    6: ["plain", "plain-sync"],
    2: ["slow", "slow-sync", "late", "stream-fast", "stream-slow", "stream-sync/", "big"],
    1: ["fail"],
}
_STREAMS = ["stream-slow", "stream-fast", "stream-fails", "stream-sync/", "big"]


def _weighted(table: dict[int, list[str]], known: set[str] | None = None) -> list[str]:
    names = [name for weight, names in table.items() for name in names * weight]
    return names if known is None else [name for name in names if name in known]


@dataclass(slots=True)
class Tally:
    requests: int = 0
    behaviours: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    """What happened to clients that had done nothing wrong."""


class Load:
    def __init__(self, port: int, kinds: set[str], seed: int) -> None:
        self._port = port
        self._seed = seed
        failing = [name for name in kinds if name.startswith("raise-")]
        self._kinds = _weighted(_KINDS, kinds) + sorted(failing)
        self._views = _weighted(_VIEWS)
        self.tally = Tally()

    async def run(self, seconds: float) -> None:
        until = monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(random.Random(self._seed * 1000 + number), until))

    async def _client(self, choice: random.Random, until: float) -> None:
        behaviours = [*_BEHAVIOURS]
        weights = [*_BEHAVIOURS.values()]
        while monotonic() < until:
            (behaviour,) = choice.choices(behaviours, weights)
            name = behaviour.__name__.strip("_").replace("_", " ")
            self.tally.behaviours[name] += 1
            connection = _Connection()
            try:
                async with asyncio.timeout(PATIENCE):
                    await connection.open(self._port)
                    await behaviour(self, connection, choice)
            except _Cut:
                self.tally.problems[f"{name}: the response was cut"] += 1
            except TimeoutError:
                self.tally.problems[f"{name}: nothing for {PATIENCE:g} s"] += 1
            except OSError as error:
                self.tally.problems[f"{name}: {type(error).__name__}"] += 1
            finally:
                connection.close()

    def request(self, choice: random.Random, *headers: str, view: str | None = None) -> bytes:
        """One with up to four kinds of callbacks."""
        self.tally.requests += 1
        kinds = choice.choices(self._kinds, k=choice.randint(0, 4))
        self.tally.kinds.update(kinds)
        view = view or choice.choice(self._views)
        method = "POST" if view == "post" else "GET"
        lines = [
            f"{method} /{view}?cb={','.join(kinds)} HTTP/1.1",
            "Host: 127.0.0.1",
            *headers,
            "",
            "",
        ]
        return "\r\n".join(lines).encode()


class _Cut(Exception):
    """The connection ended before the response."""


class _Connection:
    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._parser = httptools.HttpResponseParser(self)
        self._complete = 0

    def on_message_complete(self) -> None:
        self._complete += 1

    async def open(self, port: int) -> None:
        await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def receive(self, most: int = 65536) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._socket, most)

    async def responses(self, count: int = 1) -> None:
        """Read so many complete responses."""
        self._complete = 0
        while self._complete < count:
            data = await self.receive()
            if not data:
                raise _Cut
            while data:
                try:
                    self._parser.feed_data(data)
                except httptools.HttpParserUpgrade:
                    raise _Cut from None
                data = b""

    def narrow(self) -> None:
        """A small window: the server's buffers fill up."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)

    def reset(self) -> None:
        """RST instead of FIN."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()


# The behaviours.


async def _keep_alive(load: Load, connection: _Connection, choice: random.Random) -> None:
    for _ in range(choice.randint(1, 8)):
        await connection.send(load.request(choice))
        await connection.responses()


async def _close_after(load: Load, connection: _Connection, choice: random.Random) -> None:
    await connection.send(load.request(choice, "Connection: close"))
    await connection.responses()
    if await connection.receive():
        raise _Cut


async def _pipeline(load: Load, connection: _Connection, choice: random.Random) -> None:
    count = choice.randint(2, 8)
    await connection.send(b"".join(load.request(choice) for _ in range(count)))
    await connection.responses(count)


async def _post(load: Load, connection: _Connection, choice: random.Random) -> None:
    size = choice.choice([10, 100_000])
    await connection.send(load.request(choice, f"Content-Length: {size}", view="post"))
    await connection.send(b"x" * size)
    await connection.responses()


async def _leave(load: Load, connection: _Connection, choice: random.Random) -> None:
    await connection.send(load.request(choice))
    await asyncio.sleep(choice.choice([0, 0.002, 0.02]))


async def _reset(load: Load, connection: _Connection, choice: random.Random) -> None:
    await _leave(load, connection, choice)
    connection.reset()


async def _half_close(load: Load, connection: _Connection, choice: random.Random) -> None:
    """Servers take it for a disconnect: what comes back is theirs to decide."""
    await connection.send(load.request(choice))
    connection.half_close()
    try:
        while await connection.receive():
            pass
    except ConnectionError:
        pass


async def _leave_in_the_middle(load: Load, connection: _Connection, choice: random.Random) -> None:
    await connection.send(load.request(choice, view=choice.choice(_STREAMS)))
    for _ in range(choice.randint(1, 4)):
        if not await connection.receive(choice.choice([100, 9000])):
            return
    if choice.random() < 0.5:
        connection.reset()


async def _stall(load: Load, connection: _Connection, choice: random.Random) -> None:
    """Read slowly for a while; leave before the end, or read all of it then."""
    connection.narrow()
    await connection.send(load.request(choice, "Connection: close", view=choice.choice(_STREAMS)))
    for _ in range(choice.randint(2, 10)):
        await asyncio.sleep(0.1)
        if not await connection.receive(2000):
            return
    if choice.random() < 0.5:
        while await connection.receive():
            pass


async def _half_a_request(load: Load, connection: _Connection, choice: random.Random) -> None:
    sent = load.request(choice, "Content-Length: 1000", view="post")
    load.tally.requests -= 1  # it may never become one
    await connection.send(sent[: choice.choice([20, len(sent)])])
    await asyncio.sleep(choice.choice([0, 0.01]))
    if choice.random() < 0.5:
        connection.reset()


Behaviour = Callable[[Load, _Connection, random.Random], Awaitable[None]]
_BEHAVIOURS: dict[Behaviour, int] = {
    _keep_alive: 6,
    _close_after: 2,
    _pipeline: 2,
    _post: 1,
    _leave: 2,
    _reset: 2,
    _half_close: 1,
    _leave_in_the_middle: 3,
    _stall: 2,
    _half_a_request: 1,
}
