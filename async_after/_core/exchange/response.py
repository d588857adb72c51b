"""What is known of one response, from the five events that an adapter sees.

It becomes the outcome when the exchange has ended. Promise 1, never_before:
here it is decided when a response is complete.
"""

import math
import time
from collections.abc import Iterable
from contextvars import Context, copy_context
from datetime import UTC, datetime
from typing import TypeVar

from ..delivery import Connection, Delivery
from ..runtime import log, monotonic
from .foreign import is_of_socket, only, text_of
from .outcome import Completion, Outcome, on_one_line

T = TypeVar("T")

# RFC 9110, 6.4.1 and 8.6: these have no body, whatever Content-Length says.
_BODILESS = frozenset({204, 304})

CONTROL_IS_BACK = 0.05
"""Seconds after which an error that has left the app is most likely in the hands of the server."""

_CONTENT_LENGTH = (b"content-length", "content-length")


class ResponseState:
    """The response so far, as part of an ``Exchange``, which makes it.

    Every request has one: it keeps what it is given as it is, and works the
    outcome out only when somebody asks for it.
    """

    __slots__ = (
        "_began",
        "_failed_at",
        "_first_byte_at",
        "_headers",
        "_is_disconnected",
        "_is_last_offered",
        "_last_at",
        "_outcome",
        "body_bytes",
        "error",
        "has_trailers",
        "is_complete",
        "is_ended",
        "method",
        "path",
        "status",
    )

    method: str | None
    path: str | None
    status: int | None
    error: BaseException | None
    body_bytes: int | None
    _began: float
    _failed_at: float
    """When it has ended, if it was not complete by then."""
    _first_byte_at: float | None
    _last_at: float | None
    _outcome: Outcome | None
    _headers: Iterable[tuple[bytes, bytes]]
    has_trailers: bool
    _is_last_offered: bool
    is_complete: bool
    """The server has accepted the last message."""
    _is_disconnected: bool
    is_ended: bool
    """From here on nothing changes (promise 7)."""

    # The events. What comes after the end changes nothing (promise 7).

    def start(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], trailers: bool = False
    ) -> None:
        """The server accepted the response start."""
        if not self.is_ended:
            self.status = status
            self._headers = headers
            self.has_trailers = trailers
            self._last_at = monotonic()

    def offer(self, size: int, last: bool) -> bool:
        """A body message is about to be passed to the server: does it complete the response?

        From here on a disconnect does not count: servers report one as soon
        as they have the last message.
        """
        if last:
            completes = not self.has_trailers
        else:
            length = self._announced_length()
            completes = length is not None and (self.body_bytes or 0) + size >= length
        if completes:
            self._is_last_offered = True
        return completes

    def offer_last(self) -> None:
        """The last message of the response, no body, is about to be passed to the server."""
        self._is_last_offered = True

    def body(self, size: int | None, completes: bool) -> None:
        """The server accepted a body message of ``size`` bytes (``None``: unknown)."""
        if self.is_ended:
            return
        self._last_at = now = monotonic()
        if self._first_byte_at is None:
            self._first_byte_at = now
        if size is None or self.body_bytes is None:
            self.body_bytes = None
        else:
            self.body_bytes += size
        if completes:
            self._is_last_offered = self.is_complete = True

    def complete(self) -> None:
        """The server accepted the last message of the response, and it was no body."""
        if not self.is_ended:
            self._last_at = monotonic()
            self._is_last_offered = self.is_complete = True

    def disconnect(self) -> None:
        """The server reported the client gone."""
        if not self._is_last_offered and not self.is_ended:
            self._is_disconnected = True

    def refuse(self, error: BaseException) -> None:
        """The server raised this when it was given a message: does it say that the
        client is gone (ASGI, HTTP "Disconnected client": ``OSError``)?"""
        if is_of_socket(error) and not self.is_complete and not self.is_ended:
            self._is_disconnected = True

    def _close(self, error: BaseException | None) -> None:
        """The end, of a response that may not be complete."""
        if error is not None:
            self.error = error
        if not self.is_complete and not self._is_disconnected:
            self.is_complete = self.has_all_bytes()
        self._failed_at = monotonic()
        if self._last_at is None:
            self._last_at = monotonic()

    def unseen(self) -> float:
        """In how many seconds its server has seen, most likely, that it has failed."""
        is_over = self.is_complete or self._is_disconnected
        return 0.0 if is_over else self._failed_at + CONTROL_IS_BACK - monotonic()

    def control_is_back(self) -> None:
        """Its server has seen it."""
        self._failed_at = -math.inf

    @property
    def has_body_begun(self) -> bool:
        """Whether the server has accepted a body message."""
        return self._first_byte_at is not None

    # Content-Length.

    def _announced_length(self) -> int | None:
        """Content-Length, where reaching it completes the response (promise 1).

        granian sends ``http.disconnect`` there and Django then stops: the
        last message never comes though the client has everything.
        """
        try:
            if not self.has_trailers and not self.is_bodiless:
                for name, value in self._headers:
                    if name.lower() in _CONTENT_LENGTH and value.strip().isdigit():
                        return int(value)
        except Exception:  # the server has taken them; they announce nothing
            return None
        return None

    @property
    def is_bodiless(self) -> bool:
        """Whether this response has no body, whatever its headers say."""
        try:
            return self.method == "HEAD" or self.status in _BODILESS
        except Exception:  # a list, say
            return False

    def has_all_bytes(self) -> bool:
        """Whether the server has accepted as many bytes as Content-Length announced."""
        if self.status is None or self.body_bytes is None:
            return False
        length = self._announced_length()
        return length is not None and self.body_bytes >= length

    # The outcome.

    def _connection(self) -> Connection | None:
        """What carries the response, where the server shows that."""
        return None

    @property
    def outcome(self) -> Outcome | None:
        """What became of the response; ``None`` while the exchange is open."""
        return self.sealed if self.is_ended else None

    @property
    def sealed(self) -> Outcome:
        """The outcome, for callbacks: those exist after the end only."""
        return self._outcome or self._make_outcome()

    def _make_outcome(self) -> Outcome:
        """Outside of the lock: it reads headers that others have made, and asks the kernel."""
        try:
            outcome = self._seal()
        except Exception:
            # Headers that no server takes, say. Whatever it is, the callbacks are handed out.
            message = "the outcome of %s has to do without headers"
            log("exception", "internal_error", message, self.label(), of=self)
            outcome = self._seal(is_bare=True)
        return self._publish(outcome)

    def _publish(self, outcome: Outcome) -> Outcome:
        """The one that all see: that which was made first."""
        raise NotImplementedError

    def context(self) -> Context:
        """Where something is said of it in the log: here, it is being answered."""
        return copy_context()

    def _seal(self, *, is_bare: bool = False) -> Outcome:
        """``is_bare``: without headers, and without a look at the connection."""
        delivery, connection = Delivery.NONE, None
        # A server may accept, and discard, what comes after the client has left.
        if self._is_disconnected:
            completion = Completion.DISCONNECTED
        elif self.is_complete:
            completion = Completion.SENT
            if self.status is not None:
                delivery = Delivery.HANDED
                connection = None if is_bare else self._connection()
        else:
            completion = Completion.FAILED
        if connection is not None:
            delivery, may_rise = connection.look()
            if delivery is Delivery.NONE:
                # It reports that to nobody who does not ask.
                completion = Completion.DISCONNECTED
            if not may_rise:
                connection = None
        began, first, last = self._began, self._first_byte_at, self._last_at
        assert last is not None, "sealed before its end"
        return Outcome(
            completion=completion,
            status=only(int, self.status),
            headers=()
            if is_bare
            else tuple((text_of(name).lower(), text_of(value)) for name, value in self._headers),
            body_bytes=0 if self.is_bodiless else self.body_bytes,
            error=self.error,
            method=only(str, self.method),
            path=only(str, self.path),
            started_at=datetime.fromtimestamp(time.time() - (monotonic() - began), UTC),
            time_to_first_byte=None if first is None else first - began,
            duration=last - began,
            delivery=delivery,
            connection=connection,
        )

    def label(self) -> str:
        """Method, path and status: all that a log line says of an exchange."""
        if self.method is None and self.path is None:
            return "exchange_scope()"
        status = "no response" if self.status is None else self.status
        try:
            return f"{self.method} {on_one_line(self.path)} ({status})"
        except Exception:  # they are none of ours: a path may be anything
            return "a request that cannot be described"

    def values(self) -> dict[str, object]:
        """The same by name."""
        return {"method": self.method, "path": on_one_line(self.path), "status": self.status}
