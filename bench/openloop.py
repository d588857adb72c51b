"""The open-loop client: requests at a fixed rate, whatever the server does.

Latency counts from the moment at which a request was due, not from when it
could be sent: what a stalled server makes wait is charged to it (no
coordinated omission).
"""

import random
import selectors
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType

import httptools

GRACE = 30.0
"""Seconds after the last request was due in which everything must be answered."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The same request at these moments, in seconds after the beginning."""

    sent: bytes
    due: Sequence[float]


@dataclass(frozen=True, slots=True)
class Sample:
    due: float
    """Seconds after the beginning."""
    latency: float
    stream: int = 0
    """Which one it belongs to."""


@dataclass(slots=True)
class Measured:
    began: float
    """On the machine's monotonic clock, which all processes share."""
    settled: float = 0.0
    """Seconds until all requests that were sent at once were answered, and all
    that had come due by then, too."""
    samples: list[Sample] = field(default_factory=list)


def schedule(rate: float, seconds: float, seed: int) -> list[float]:
    """One request in each slot of ``1 / rate``, anywhere in it: a strict
    period could fall in step with what is to be measured."""
    generator = random.Random(seed)
    return [(slot + generator.random()) / rate for slot in range(int(rate * seconds))]


class OpenLoop:
    """One thread and one selector for all connections, which are open and
    warm when the measurement begins. None may rest for longer than the server
    lets it."""

    def __init__(self, port: int, *, burst: int, connections: int) -> None:
        # Not epoll: its timeouts are rounded up to a millisecond.
        self._selector = selectors.SelectSelector()
        self._all: list[_Connection] = []
        try:
            self._burst = [self._open(port) for _ in range(burst)]
            self._idle = deque(self._open(port) for _ in range(connections))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "OpenLoop":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, port: int) -> "_Connection":
        connection = _Connection(port)
        self._all.append(connection)
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        return connection

    def close(self) -> None:
        for connection in self._all:
            connection.socket.close()
        self._selector.close()

    def warm_up(self, sent: bytes) -> None:
        """One request on each connection, one after the other."""
        for connection in self._all:
            connection.send(sent)
            deadline = monotonic() + GRACE
            while connection not in self._wait(max(0.0, deadline - monotonic())):
                if monotonic() > deadline:
                    raise RuntimeError("no response while nothing else was asked for")

    def measure(self, burst: bytes, plain: bytes, due: Sequence[float]) -> Measured:
        """``burst`` on all its connections at once, and ``plain`` whenever it is due."""
        return self._measure(burst, [Stream(plain, due)])

    def measure_streams(self, *streams: Stream) -> list[list[float]]:
        """The latencies of each, sharing the connections, in the order of the responses."""
        found: list[list[float]] = [[] for _ in streams]
        for sample in self._measure(b"", streams).samples:
            found[sample.stream].append(sample.latency)
        return found

    def _measure(self, burst: bytes, streams: Sequence[Stream]) -> Measured:
        arrivals = sorted(
            (due, number) for number, stream in enumerate(streams) for due in stream.due
        )
        measured = Measured(began=monotonic())
        for connection in self._burst:
            connection.send(burst)
        left = len(self._burst)
        coming, late = deque(arrivals), deque[tuple[float, int]]()
        busy: dict[_Connection, tuple[float, int]] = {}
        deadline = measured.began + (arrivals[-1][0] if arrivals else 0.0) + GRACE
        while coming or late or busy or left:
            now = monotonic()
            if now > deadline:
                raise RuntimeError(f"{len(busy) + len(late) + left} requests were not answered")
            while coming and measured.began + coming[0][0] <= now:
                late.append(coming.popleft())
            while late and self._idle:
                connection = self._idle.popleft()
                busy[connection] = late.popleft()
                connection.send(streams[busy[connection][1]].sent)
            until = measured.began + coming[0][0] if coming else deadline
            for connection in self._wait(max(0.0, until - monotonic())):
                passed = monotonic() - measured.began
                if connection in busy:
                    when, number = busy.pop(connection)
                    measured.samples.append(Sample(when, passed - when, number))
                    self._idle.append(connection)
                else:
                    left -= 1
            if not (measured.settled or left or busy or late):
                measured.settled = monotonic() - measured.began
        return measured

    def _wait(self, timeout: float) -> "list[_Connection]":
        """Those whose response is complete now."""
        ready = self._selector.select(timeout)
        return [key.data for key, _ in ready if key.data.receive()]


class _Connection:
    """Keep-alive, one request at a time, never blocking."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=GRACE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._parser = httptools.HttpResponseParser(self)
        self._is_complete = False

    def on_message_complete(self) -> None:
        self._is_complete = True

    def send(self, sent: bytes) -> None:
        self._is_complete = False
        # A request is far smaller than the buffer of an idle connection.
        if self.socket.send(sent) != len(sent):
            raise ConnectionError("the request could not be sent at once")

    def receive(self) -> bool:
        """Whether that completed the response."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection before the response")
        self._parser.feed_data(data)
        if self._is_complete and self._parser.get_status_code() != 200:
            raise ConnectionError(f"the server answered {self._parser.get_status_code()}")
        return self._is_complete
