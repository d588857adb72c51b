"""What became of a response.

Promise 7, sealed: an ``Outcome`` is complete and immutable before the first
callback sees it.
"""

import time
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import Enum
from typing import Any

from ..delivery import Connection, Delivery, Wait, level_of
from ..runtime import Latch, running_loop


class Completion(Enum):
    """How far a response got."""

    __module__ = "async_after"

    SENT = "sent"
    """The server accepted the last message. It does not mean: received."""
    DISCONNECTED = "disconnected"
    """The server reported the client gone before it was given the last message."""
    FAILED = "failed"
    """The app raised, or returned without completing its response."""


def on_one_line(text: str | None) -> str | None:
    """A path as a log may show it: a line break in it would forge a line."""
    if text is None or type(text) is not str:
        return None if text is None else f"a {type(text).__name__}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """What became of one response: a sealed record that never changes.

    Its ``repr`` names no header and no message of an error: those may hold
    what belongs in no log.
    """

    __module__ = "async_after"

    completion: Completion
    status: int | None
    """The status code; ``None`` when no response was started."""
    headers: tuple[tuple[str, str], ...]
    """The response headers in order, names in lower case."""
    body_bytes: int | None
    """Bytes of body the server accepted; ``None`` where the server read them
    itself (``http.response.pathsend``, ``http.response.zerocopysend``)."""
    error: BaseException | None
    """What left the app, or what Django's ``process_exception`` hook saw."""
    method: str | None
    path: str | None
    started_at: datetime
    """When the exchange began: aware, UTC."""
    time_to_first_byte: float | None
    """Monotonic seconds from the start to the first body message accepted by
    the server; ``None`` when there was none."""
    duration: float
    """Monotonic seconds from the start to the last message accepted by the
    server, or to the end of the exchange when it accepted none."""
    delivery: Delivery = Delivery.NONE
    """How far the response had got when this record was sealed."""
    connection: Connection | None = field(default=None, repr=False, compare=False)
    """What carries it, where the server shows that and it may rise: for ``wait_delivered``."""

    async def wait_delivered(self, level: Delivery | str, timeout: float | None = None) -> Delivery:
        """Wait up to ``timeout`` seconds until the response has got so far; how far it got.

        ``None``: as long as it can get further. It does not raise when it
        never gets there, and the record does not change. Where the server
        shows no connection the answer is ``delivery``, at once. Raises
        ``TypeError`` or ``ValueError`` for what is no level.
        """
        wait = self._waiting(level, timeout)
        while (pause := wait.look()) is not None:
            await Latch().wait(pause)  # no event tells
        return wait.reached

    def wait_delivered_sync(self, level: Delivery | str, timeout: float | None = None) -> Delivery:
        """The same for plain functions: it blocks the thread. Raises ``RuntimeError``
        on an event loop, which could not send the rest of the response meanwhile."""
        if running_loop() is not None:
            raise RuntimeError(
                "wait_delivered_sync() would block the event loop: use"
                " 'await outcome.wait_delivered(...)'"
            )
        wait = self._waiting(level, timeout)
        while (pause := wait.look()) is not None:
            time.sleep(pause)
        return wait.reached

    def _waiting(self, level: Delivery | str, timeout: float | None = None) -> Wait:
        return Wait(self.connection, self.delivery, level_of(level), timeout)

    def __reduce__(self) -> tuple[Any, ...]:
        # A queue may take it to another process, which has not this connection.
        values = [getattr(self, field.name) for field in fields(self)]
        return type(self), (*values[:-1], None)

    @property
    def is_success(self) -> bool:
        """SENT, with a status below 400 (or none, in a scope) and no exception."""
        return (
            self.completion is Completion.SENT
            and self.error is None
            and (self.status is None or self.status < 400)
        )

    def __repr__(self) -> str:
        error = type(self.error).__name__ if self.error is not None else None
        return (
            f"<Outcome {self.completion.name} status={self.status} {self.method}"
            f" {on_one_line(self.path)} body_bytes={self.body_bytes} error={error}"
            f" duration={self.duration:.6f} {self.delivery.name}>"
        )
