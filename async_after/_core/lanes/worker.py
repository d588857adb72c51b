"""One worker thread, as its pool sees it."""

import queue
import threading
from collections.abc import Callable

Work = Callable[[], None]
Job = tuple[Work, Work | None]
"""What is to be done, and what instead if that raises."""


class Worker:
    """One thread and the work given to it."""

    __slots__ = ("inbox", "is_at_end", "load", "overdue_with", "sessions", "thread", "turn")

    def __init__(self) -> None:
        # Looked up only now: gevent may have patched it since the import.
        self.inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None
        self.load: int = 0
        """Pieces of work given to it and not done yet."""
        self.sessions: int = 0
        """Async callbacks whose thread-sensitive calls all come here."""
        self.overdue_with: str | None = None
        """The callback that has not ended within its timeout."""
        self.turn: int = 0
        """How many pieces of work it has done."""
        self.is_at_end: bool = False
        """The work that it is at is as good as done."""

    @property
    def is_about_to_be_free(self) -> bool:
        """Nothing else was given to it, and nothing holds it."""
        return self.is_at_end and self.load == 1 and self.overdue_with is None

    @property
    def is_busy(self) -> bool:
        return self.load > self.is_at_end
