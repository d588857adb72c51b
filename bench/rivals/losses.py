"""The judge of the loss table: of the callbacks asked for, how many were never completed?

It counts what the callbacks themselves have written to the ledger.
"""

import contextlib
import itertools
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from .clients import Visit
from .site import Site, site
from .ways import Way
from .work import FAILING, FAILING_NAME, Asked, Event, Kind

AT_ONCE = 8
"""Clients of one column that are there together."""
SECONDS = 0.2
"""How long the work takes,"""
TERM_SECONDS = 1.0
"""and in the column of SIGTERM."""
QUIET = 3.0
"""Seconds without a further callback after which the rest are lost,"""
QUIET_QUEUE = 20.0
"""and where workers have to start, or look into their queue once a second."""
EVENT_TIMEOUT = 15.0
TERM_QUIET = 0.5
"""Seconds without a further callback that begins, after the first, before SIGTERM is sent."""

CLOSES, RESETS, LEAVES = "client closes", "client resets", "client leaves"
WORK_RAISES, VIEW_RAISES = "earlier raises", "view raises"
TERM, AT_ONCE_200 = "SIGTERM", "200 at once"
COLUMNS = (CLOSES, RESETS, LEAVES, WORK_RAISES, VIEW_RAISES, TERM, AT_ONCE_200)
LOGGED, NO_TRACEBACK, NOT_LOGGED = "yes", "no traceback", "NO"
BURST = 200
BURST_SECONDS = 0.05
"""How long its work takes: the slowest do one at a time."""


class Stopped(Exception):
    """The run is to end."""


@dataclass(slots=True)
class Row:
    """What became of the work, by column."""

    way: Way
    kind: Kind
    asked: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    logged: str = ""
    """Whether a failure was: LOGGED only with a traceback that names what failed."""


class Judge:
    """Judges one way with one kind of work.

    A fresh server for SIGTERM, and another one for all other columns: there each
    callback has a token of its own, by which its column is counted.
    """

    def __init__(
        self, way: Way, kind: Kind, count: int, stop: threading.Event | None = None
    ) -> None:
        self._way = way
        self._kind = kind
        self._count = count
        self._stop = stop or threading.Event()
        self._numbers = itertools.count()
        self._quiet = QUIET_QUEUE if way.workers else QUIET

    def judge(self, columns: Sequence[str] = COLUMNS) -> Row:
        row = Row(self._way, self._kind)
        actions: dict[str, Callable[[Site], tuple[int, int]]] = {
            CLOSES: self._closes,
            RESETS: self._resets,
            LEAVES: self._leaves,
            WORK_RAISES: self._work_raises,
            VIEW_RAISES: self._view_raises,
            TERM: self._term,
            AT_ONCE_200: self._at_once,
        }
        for together in ([c for c in columns if c != TERM], [c for c in columns if c == TERM]):
            if not together:
                continue
            with self._site() as running:
                for column in together:
                    asked, completed = actions[column](running)
                    if self._stop.is_set():
                        raise Stopped
                    running.check()
                    row.asked[column], row.lost[column] = asked, asked - completed
                worker_logs = running.worker_logs()
            if WORK_RAISES in together:
                counts, _ = running.server.log.counts()
                if any(counts[text] or text in worker_logs for text in FAILING):
                    row.logged = LOGGED
                else:
                    is_named = counts[FAILING_NAME] or FAILING_NAME in worker_logs
                    row.logged = NO_TRACEBACK if is_named else NOT_LOGGED
        return row

    @contextlib.contextmanager
    def _site(self) -> Iterator[Site]:
        with site(self._way) as running:
            running.server.log.watch(*FAILING, FAILING_NAME)
            if self._way.workers:
                # They start after the server: until the first has done something.
                self._wait(running, "done", self._visit(running, "work", 1))
            yield running

    # The columns: how many were asked for, how many completed.

    def _closes(self, running: Site) -> tuple[int, int]:
        return self._completed(running, self._visit(running, "work", self._count, close=False))

    def _resets(self, running: Site) -> tuple[int, int]:
        def reset(visit: Visit, _: str) -> None:
            visit.read_beginning()
            visit.reset()

        return self._completed(running, self._visit(running, "stream", self._count, reset))

    def _leaves(self, running: Site) -> tuple[int, int]:
        event: Event = "entered" if self._way.is_inline else "registered"

        def leave(_: Visit, token: str) -> None:
            if not self._wait(running, event, [token], EVENT_TIMEOUT):
                raise RuntimeError(f"{self._way.name}: no {event} for {token}")

        return self._completed(running, self._visit(running, "slow", self._count, leave))

    def _work_raises(self, running: Site) -> tuple[int, int]:
        return self._completed(running, self._visit(running, "pair", self._count))

    def _view_raises(self, running: Site) -> tuple[int, int]:
        return self._completed(running, self._visit(running, "raise", self._count))

    def _at_once(self, running: Site) -> tuple[int, int]:
        return self._completed(
            running,
            self._visit(running, "work", BURST, at_once=BURST, seconds=BURST_SECONDS),
        )

    def _term(self, running: Site) -> tuple[int, int]:
        asked = self._asked("work", self._count, TERM_SECONDS)
        tokens = [each.token for each in asked]
        with contextlib.ExitStack() as stack:
            for each in asked:
                stack.enter_context(Visit(running.port, each.path))
            if not self._way.is_inline:
                self._wait(running, "registered", tokens, EVENT_TIMEOUT)
            self._wait(running, "entered", tokens, EVENT_TIMEOUT, enough=1)
            self._wait(running, "entered", tokens, TERM_QUIET)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.terminate()
        if self._way.workers:
            running.start_workers()
            return len(tokens), self._wait(running, "done", tokens)
        return len(tokens), running.ledger.count("done", tokens)

    # What they are made of.

    def _asked(self, what: str, count: int, seconds: float = SECONDS) -> list[Asked]:
        milliseconds = round(seconds * 1000)
        return [
            Asked(what, self._kind, milliseconds, f"{what}-{next(self._numbers)}")
            for _ in range(count)
        ]

    def _visit(
        self,
        running: Site,
        what: str,
        count: int,
        act: Callable[[Visit, str], None] = lambda visit, _: visit.read_response(),
        *,
        at_once: int = AT_ONCE,
        seconds: float = SECONDS,
        close: bool = True,
    ) -> list[str]:
        """The tokens of what was asked for. Behind ``act`` each client closes its connection."""
        asked = self._asked(what, count, seconds)
        for first in range(0, count, at_once):
            if self._stop.is_set():
                raise Stopped
            with contextlib.ExitStack() as stack:
                visits = [
                    (stack.enter_context(Visit(running.port, each.path, close=close)), each.token)
                    for each in asked[first : first + at_once]
                ]
                for visit, token in visits:
                    act(visit, token)
                    visit.leave()
        return [each.token for each in asked]

    def _completed(self, running: Site, tokens: Sequence[str]) -> tuple[int, int]:
        # A site has other requests: what waits for the end of any request shall have one.
        self._visit(running, "plain", 1)
        return len(tokens), self._wait(running, "done", tokens)

    def _wait(
        self,
        running: Site,
        event: Event,
        tokens: Sequence[str],
        quiet: float | None = None,
        enough: int | None = None,
    ) -> int:
        return running.ledger.wait(
            event,
            tokens,
            quiet=quiet or self._quiet,
            enough=enough,
            stopped=self._stop.is_set,
        )
