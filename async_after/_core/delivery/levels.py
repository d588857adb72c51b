"""How far the bytes of a response got, beyond the server's having taken them.

*Sent* only means that the server took the last message. Where the server shows
the connection (``probes``), more is known: whether the process still keeps
bytes, and whether the peer's kernel has acknowledged all. It never says that
the program there has read them; and behind a proxy the peer is the proxy.
"""

import math
from enum import IntEnum
from typing import Protocol

from ..runtime import clock, monotonic


class Delivery(IntEnum):
    """How far a response got; ordered."""

    __module__ = "async_after"

    NONE = 0
    """Not all of it was handed to the server, or the server has thrown it away."""
    HANDED = 1
    """The server accepted the last message."""
    FLUSHED = 2
    """The buffers of the process are empty: the kernel has every byte."""
    ACKNOWLEDGED = 3
    """The peer's kernel has acknowledged every byte (Linux, ``SIOCOUTQ`` in tcp(7))."""


class Connection(Protocol):
    """What carries one response, as far as its server shows it."""

    def look(self) -> tuple[Delivery, bool]:
        """The level now, and whether it may still rise. Any thread may ask;
        it neither blocks nor raises."""


class Noted:
    """A connection that was looked at when the last message was sent. If all was
    acknowledged then, it stays so, whatever becomes of the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._first: tuple[Delivery, bool] = connection.look()

    def look(self) -> tuple[Delivery, bool]:
        if self._first[0] is Delivery.ACKNOWLEDGED:
            return self._first
        return self._connection.look()


class Wait:
    """For a level, up to ``timeout`` seconds (``None``: while it may rise). No event
    tells of an acknowledgement: it is looked for again and again."""

    def __init__(
        self,
        connection: Connection | None,
        reached: Delivery,
        level: Delivery,
        timeout: float | None,
    ) -> None:
        if timeout is not None and not clock.is_seconds(timeout, zero=True):
            is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
            kind = ValueError if is_number else TypeError
            raise kind(f"timeout={timeout!r}: must be a number of seconds, 0 or more, or None")
        self._connection = connection
        self._level = level
        self._deadline = math.inf if timeout is None else monotonic() + timeout
        # Most acknowledgements come within a round trip; one that does not, of a client
        # that stalls, is worth few looks a second.
        self._pause = 0.001
        self.reached: Delivery = reached

    def look(self) -> float | None:
        """Look; seconds until the next time, ``None`` when no other is needed."""
        if self._connection is None or self.is_reached:
            return None
        reached, may_rise = self._connection.look()
        # What was acknowledged stays so, whatever the connection carries later.
        self.reached = max(self.reached, reached)
        left = self._deadline - monotonic()
        if self.is_reached or not may_rise or left <= 0:
            return None
        pause, self._pause = self._pause, min(self._pause * 1.3, 0.2)
        return min(pause, left)

    @property
    def is_reached(self) -> bool:
        return self.reached >= self._level


def level_of(value: object) -> Delivery:
    """What somebody waits for, a level or its name. Raises ``TypeError`` or ``ValueError``."""
    if isinstance(value, Delivery):
        return value
    names = {level.name.lower(): level for level in Delivery}
    if isinstance(value, str) and value in names:
        return names[value]
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"the level must be a Delivery or one of {', '.join(names)}, not {value!r}")
