"""Clients that do anything at all with their responses, at random."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..harness import Server
from .peer import Peer

CLOSE = "Connection: close"


@dataclass
class Asked:
    """One response, and what the client's kernel has received of it."""

    server: Server
    ident: str
    begin: int
    """Where it begins in the stream, in bytes."""
    total: int
    """Bytes on the wire, with its head."""
    peer: Peer
    received: int = 0
    """When the client was through: no more came then."""

    @property
    def is_received(self) -> bool:
        return self.received >= self.begin + self.total

    def is_false(self, claimed_at: float) -> bool:
        """Whether it was not received when it was said to be."""
        end = self.begin + self.total
        return not self.is_received or any(
            at > claimed_at and received < end for at, received in self.peer.samples
        )


class Wire:
    """What a response of one server takes on the wire, but for its body."""

    def __init__(self, server: Server) -> None:
        self._heads: dict[tuple[str, tuple[str, ...]], int] = {
            (framing, headers): self._head(server, framing, headers)
            for framing in ("length", "chunked")
            for headers in ((), (CLOSE,))
        }

    def size(self, sizes: Sequence[int], framing: str, headers: tuple[str, ...]) -> int:
        return self._heads[framing, headers] + _body_and_framing(sizes, framing)

    @staticmethod
    def _head(server: Server, framing: str, headers: tuple[str, ...]) -> int:
        peer = Peer(server.port)
        peer.ask(f"/{server.new_ident()}?sizes=1&framing={framing}", *headers)
        size = peer.read_response() - _body_and_framing((1,), framing)
        peer.close()
        return size


def _body_and_framing(sizes: Sequence[int], framing: str) -> int:
    if framing == "length":
        return sum(sizes) + len(str(sum(sizes)))
    return sum(len(f"{size:x}") + 4 + size for size in sizes) + len("0\r\n\r\n")


class Trial:
    """One connection, with one response or two."""

    def __init__(self, servers: dict[Server, Wire], seed: str, ident: str) -> None:
        self._random = random.Random(seed)
        self._server = self._random.choice([*servers])
        self._wire = servers[self._server]
        self._ident = ident
        self.asked: list[Asked] = []

    def run(self) -> list[Asked]:
        choose = self._random.choice
        self._peer = Peer(self._server.port, choose((None, 2_304, 8_192, 65_536)))
        try:
            self._ask(choose((1, 1, 1, 2)))
            choose(_BEHAVIOURS)(self)
        except ConnectionError:
            pass  # what the server has made of this client's behaviour
        received = self._peer.reset()
        for asked in self.asked:
            asked.received = received
        return self.asked

    def _ask(self, responses: int) -> None:
        """The second one is asked for at once, or when the first one has been read."""
        choose = self._random.choice
        for number in range(responses):
            sizes = [int(10 ** self._random.uniform(2, 6.3)) for _ in range(choose((1, 1, 2, 4)))]
            framing, pause = choose(("length", "chunked")), choose((0, 0, 0.001, 0.01))
            headers = (CLOSE,) if number + 1 == responses and choose((1, 2, 3)) == 1 else ()
            begin = sum(asked.total for asked in self.asked)
            total = self._wire.size(sizes, framing, headers)
            ident = f"{self._ident}-{number}"
            self.asked.append(Asked(self._server, ident, begin, total, self._peer))
            target = f"/{ident}?sizes={','.join(map(str, sizes))}&framing={framing}"
            wait = self._random.uniform(0.02, 0.2)
            lane = choose(("", "&thread"))
            self._peer.ask(f"{target}&pause={pause}&wait={wait}{lane}", *headers)
            if choose((True, False)):
                self._read(begin + total)

    @property
    def _all(self) -> int:
        return sum(asked.total for asked in self.asked)

    def _read(self, end: int, *, slowly: bool = False) -> None:
        """Up to this position in the stream, or to its end."""
        while self._peer.total < end:
            if slowly:
                self._pause(0.005)
            if not self._peer.read(min(65_536, end - self._peer.total)):
                return

    def _pause(self, longest: float = 0.2) -> None:
        time.sleep(self._random.uniform(0, longest))
        self._peer.received()

    # What a client does.

    def reads_all(self) -> None:
        self._read(self._all)
        self._pause()

    def reads_slowly(self) -> None:
        self._read(self._all // 2)
        deadline = time.monotonic() + 0.3
        while self._peer.total < self._all and time.monotonic() < deadline:
            self._pause(0.02)
            self._read(min(self._all, self._peer.total + 20_000))
        self._pause()

    def leaves_having_read_all(self) -> None:
        self._read(self._all)
        self._peer.leave()
        self._pause()

    def stalls(self) -> None:
        self._read(self._random.randrange(self._all))
        self._pause(0.3)

    def stalls_and_reads_on(self) -> None:
        self._read(self._random.randrange(self._all))
        self._pause()
        self._read(self._all)
        self._pause()

    def leaves(self) -> None:
        self._read(self._random.randrange(self._all))
        self._peer.leave()
        self._pause()

    def leaves_at_once(self) -> None:
        self._peer.leave()
        self._pause()

    def resets(self) -> None:
        self._read(self._random.randrange(self._all))

    def resets_soon(self) -> None:
        self._pause(0.01)

    def is_unplugged(self) -> None:
        self._read(self._random.randrange(self._all))
        self._peer.deafen()
        self._pause()

    def is_unplugged_soon(self) -> None:
        self._pause(0.005)
        self._peer.deafen()
        self._pause()


_BEHAVIOURS: Sequence[Callable[[Trial], None]] = (
    *(Trial.reads_all,) * 3,
    Trial.reads_slowly,
    Trial.leaves_having_read_all,
    *(Trial.stalls,) * 3,
    Trial.stalls_and_reads_on,
    Trial.leaves,
    *(Trial.leaves_at_once,) * 2,
    *(Trial.resets,) * 2,
    Trial.resets_soon,
    Trial.is_unplugged,
    *(Trial.is_unplugged_soon,) * 2,
)
