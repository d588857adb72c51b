"""Pairs of requests without and with a callback, in turn on one connection after another."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .client import Connection, request
from .progress import Advance

COMPLETE, NEXT, EOF = "complete response", "next request", "EOF after close"
NEXT_STREAM = "next stream"
WARM_UP = 1.5
"""Seconds; longer than a callback sleeps."""
RENEWED = 10
"""Blocks on one connection: hypercorn closes one after 1,000 requests."""
COUNT_TIMEOUT = 30.0
REST = 0.005
RESTS = {"cpu": 0.015, "database": 0.011}
"""Seconds of rest before each figure, by row: no callback of a request before runs in it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Of the responses."""

    is_chunked: bool = False
    is_large: bool = False

    @property
    def path(self) -> str:
        words = [*(["large"] if self.is_large else []), *(["chunked"] if self.is_chunked else [])]
        return f"/{'-'.join(words)}/" if words else "/"

    @property
    def name(self) -> str:
        """How it differs from what is usual, for titles and names of figures."""
        return f"{', chunked' if self.is_chunked else ''}{', 1 MB' if self.is_large else ''}"


@dataclass(slots=True)
class Pairs:
    """Seconds without and with a callback; items of equal index were taken together."""

    without: list[float] = field(default_factory=list)
    with_: list[float] = field(default_factory=list)


Samples = dict[tuple[str, str], Pairs]
"""By row (the kind of callback) and figure."""


class Client(Protocol):
    """What takes the figures over one protocol."""

    @property
    def figures(self) -> Sequence[str]: ...

    def renew(self) -> None:
        """From now on on another connection."""

    def turn(self, path: str, rest: float) -> Sequence[float]:
        """One sample of each figure, of a request to ``path``."""

    def get(self, path: str) -> bytes: ...

    def close(self) -> None: ...


class Http1:
    figures = (COMPLETE, NEXT, EOF)

    def __init__(self, port: int) -> None:
        self._port = port
        self._kept = Connection(port)

    def renew(self) -> None:
        self._kept.close()
        self._kept = Connection(self._port)
        self._kept.complete(request("/none"))

    def turn(self, path: str, rest: float) -> Sequence[float]:
        time.sleep(rest)
        complete = self._kept.complete(request(path))
        following = self._kept.complete(request("/none"))
        time.sleep(rest)
        with Connection(self._port) as closing:
            return complete, following, closing.eof(request(path, close=True))

    def get(self, path: str) -> bytes:
        return self._kept.get(path)

    def close(self) -> None:
        self._kept.close()


class Http2:
    figures = (COMPLETE, NEXT_STREAM)

    def __init__(self, port: int) -> None:
        from .client_h2 import Http2Connection  # h2 is not needed for the rest

        self._port, self._connect = port, Http2Connection
        self._kept = Http2Connection(port)

    def renew(self) -> None:
        self._kept.close()
        self._kept = self._connect(self._port)
        self._kept.complete("/none")

    def turn(self, path: str, rest: float) -> Sequence[float]:
        time.sleep(rest)
        return self._kept.complete(path), self._kept.complete("/none")

    def get(self, path: str) -> bytes:
        return self._kept.get(path)

    def close(self) -> None:
        self._kept.close()


def measure(
    client: Client, shape: Shape, pairs: int, samples: Samples, rows: Sequence[str], done: Advance
) -> int:
    """Fills ``samples``, and tells how many callbacks ran for them."""
    # Callbacks are under way all the time, in all rows alike; here their
    # number, and that of the threads, comes to what it will stay at.
    until = time.monotonic() + WARM_UP
    while time.monotonic() < until:
        _block(client, shape, {}, rows)
    for number in range((pairs + 1) // 2):
        if number % RENEWED == 0:
            client.renew()
        _block(client, shape, samples, rows)
        done(2)
    return count(client.get, "/counts")


def _block(client: Client, shape: Shape, samples: Samples, rows: Sequence[str]) -> None:
    """Two pairs of each row, A B B A, so that neither side gains by its turn."""
    for row in rows:
        rest = RESTS.get(row, REST)
        a_1, b_1, b_2, a_2 = (
            client.turn(f"{shape.path}{kind}", rest) for kind in ("none", row, row, "none")
        )
        for index, figure in enumerate(client.figures):
            pairs = samples.setdefault((row, figure), Pairs())
            # Both sides or none, wherever a Ctrl-C comes.
            pairs.without.extend((a_1[index], a_2[index]))
            pairs.with_.extend((b_1[index], b_2[index]))


class Get(Protocol):
    def __call__(self, path: str, /) -> bytes: ...


def count(get: Get, path: str) -> int:
    """How many callbacks have ended. All must: otherwise nothing was measured."""
    until = time.monotonic() + COUNT_TIMEOUT
    while True:
        registered, ended = json.loads(get(path))
        if registered == ended:
            return int(ended)
        if time.monotonic() > until:
            raise RuntimeError(f"only {ended} of {registered} callbacks ran")
        time.sleep(0.1)
