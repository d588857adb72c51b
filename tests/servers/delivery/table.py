"""What an outcome says of the delivery, against what really happened: one table per server.

The truth is TCP's: what the kernel of the client has received.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from async_after._core.delivery import Delivery

from ..harness import Server
from .peer import Peer

SMALL_BUFFER = 4096
"""Of a receiving socket, in bytes; the kernel doubles it."""
WAIT = 0.25
"""Seconds of ``wait_delivered``, for a client that does not take all ..."""
LONG = 10.0
"""... and for one that does, where it ends before."""
PATIENCE = 0.5
"""Seconds for an outcome: where it takes longer, the server waits for its client."""

BODIES: dict[str, tuple[int, ...]] = {
    "1 kB": (1_000,),
    "1 MB": (1_000_000,),
    "8 MB": (8_000_000,),
    "stream": (65_536,) * 16,
}


@dataclass(frozen=True)
class Line:
    body: str
    client: str
    completion: str
    sealed: Delivery
    waited: Delivery
    received: int
    """What the client's kernel has received, in bytes."""
    total: int
    """Of the response, with its head."""
    is_premature: bool
    """ACKNOWLEDGED was said before the client's kernel had received all."""

    @property
    def is_false(self) -> bool:
        claims = Delivery.ACKNOWLEDGED in (self.sealed, self.waited)
        return self.is_premature or (claims and self.received < self.total)

    def cells(self) -> list[str]:
        return [
            *(self.body, self.client, self.completion, self.sealed.name, self.waited.name),
            f"{min(self.received, self.total)} of {self.total}",
            "FALSE" if self.is_false else "",
        ]


class Trial:
    """One request, and a client that does with the response what it likes."""

    def __init__(self, server: Server, body: str) -> None:
        self.server = server
        self.ident = server.new_ident()
        self.body = body
        self.wait = WAIT
        # Under WSGI the outcome is at home in threads.
        self._lane = "&thread" if "wsgi" in server.config.app else ""
        self.peer: Peer
        self._received: int | None = None

    def connect(self, receive_buffer: int | None = None) -> Peer:
        self.peer = Peer(self.server.port, receive_buffer)
        return self.peer

    def ask(self, gate: str = "") -> None:
        sizes = ",".join(map(str, BODIES[self.body]))
        self.peer.ask(f"/{self.ident}?sizes={sizes}&wait={self.wait}&gate={gate}{self._lane}")

    def is_asked(self) -> None:
        self.server.wait(self.ident, "asked")

    def go_on(self) -> None:
        self.server.release(self.ident)

    def reset(self) -> None:
        """And let the server notice, if it looks."""
        (asked,) = self.server.wait(self.ident, "asked")
        before = _sockets(asked["pid"])
        self._received = self.peer.reset()
        deadline = time.monotonic() + 0.2
        while _sockets(asked["pid"]) >= before and time.monotonic() < deadline:
            time.sleep(0.005)

    def until_known(self) -> None:
        """Until the outcome is known, or the server waits for its client."""
        deadline = time.monotonic() + self.wait + PATIENCE
        while not self.server.events(self.ident, "waited"):
            if time.monotonic() > deadline:
                return
            if self._received is None:
                self.peer.received()
            time.sleep(0.005)

    def line(self, client: str, total: int) -> Line | None:
        """What was said, and what was so; ``None`` if the server never asked the app."""
        self.until_known()
        if self._received is None:
            self._received = self.peer.reset()
        if not self.server.events(self.ident, "asked"):
            return None
        (waited,) = self.server.wait(self.ident, "waited")
        (sealed,) = self.server.wait(self.ident, "sealed")
        claims = [e["at"] for e in (sealed, waited) if e["delivery"] == "ACKNOWLEDGED"]
        samples = self.peer.samples
        return Line(
            self.body,
            client,
            sealed["completion"],
            Delivery[sealed["delivery"]],
            Delivery[waited["delivery"]],
            self._received,
            total,
            any(at > claim and received < total for claim in claims for at, received in samples),
        )


def _sockets(pid: int) -> int:
    """How many sockets a process has."""
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            count += os.readlink(link).startswith("socket:")
    return count


def read_all(trial: Trial) -> None:
    trial.wait = LONG
    trial.connect()
    trial.ask()
    trial.peer.read_response()


def closed_right_after(trial: Trial) -> None:
    read_all(trial)
    trial.peer.leave()


def closed_at_once(trial: Trial) -> None:
    trial.connect()
    trial.ask()
    trial.peer.leave()


def reset_before(trial: Trial) -> None:
    trial.connect()
    trial.ask(gate="before")
    trial.reset()
    trial.go_on()


def reset_in_the_middle(trial: Trial) -> None:
    trial.connect(SMALL_BUFFER)
    trial.ask(gate="middle")
    assert trial.peer.read(100)
    trial.reset()
    trial.go_on()


def stalled(trial: Trial) -> None:
    trial.connect(SMALL_BUFFER)
    trial.ask()


def unplugged(trial: Trial) -> None:
    """The client's machine is gone without a word."""
    trial.connect()
    trial.ask(gate="before")
    trial.is_asked()
    trial.peer.deafen()
    trial.go_on()


CLIENTS: Sequence[tuple[str, Callable[[Trial], None]]] = (
    ("reads all", read_all),
    ("closes right after", closed_right_after),
    ("closes at once", closed_at_once),
    ("resets before", reset_before),
    ("resets in the middle", reset_in_the_middle),
    ("stalls", stalled),
    ("is unplugged", unplugged),
)


def lines_of(server: Server) -> Iterable[Line]:
    for body in BODIES:
        total = _size(server, body)
        for name, behave in CLIENTS:
            if behave is reset_in_the_middle and body == "1 kB":
                continue  # there is none
            trial = Trial(server, body)
            behave(trial)
            line = trial.line(name, total)
            if line is not None:
                yield line


def _size(server: Server, body: str) -> int:
    """Of the whole response, with its head."""
    trial = Trial(server, body)
    peer = trial.connect()
    trial.ask()
    total = peer.read_response()
    peer.close()
    server.wait(trial.ident, "waited")
    return total


def shown(title: str, lines: Iterable[Line]) -> str:
    head = ["body", "the client", "completion", "sealed", "waited", "client's kernel has", ""]
    cells = [head, *(line.cells() for line in lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells)
    return "\n".join([f"\n{title}", *(row.rstrip() for row in rows)])


def table(server: Server) -> list[Line]:
    """Printed, of a server that shows its connections; without a false word."""
    lines = [*lines_of(server)]
    print(shown(str(server.config), lines))
    assert not [line for line in lines if line.is_false]
    for line in lines:
        if (line.body, line.client) == ("1 kB", "is unplugged"):
            assert line.sealed is line.waited is Delivery.FLUSHED, "the probe sees nothing"
            assert line.received == 0
    return lines
