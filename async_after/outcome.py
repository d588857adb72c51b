"""What became of a response.

Promise 7, sealed: an ``Outcome`` is complete and immutable before the first
callback sees it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class Completion(Enum):
    """How far a response got."""

    SENT = "sent"
    """The server accepted the last message. It does not mean: received."""
    DISCONNECTED = "disconnected"
    """The server reported the client gone before it was given the last message."""
    FAILED = "failed"
    """The app raised, or returned without completing its response."""


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """What became of one response: a sealed record that never changes.

    Its ``repr`` names no header and no message of an error: those may hold
    what belongs in no log.
    """

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
            f"<Outcome {self.completion.name} status={self.status} {self.method} {self.path}"
            f" body_bytes={self.body_bytes} error={error} duration={self.duration:.6f}>"
        )
