"""The app's own books: what was registered, what each function saw, how each callback ended.

They know nothing of the runner's. A note travels with every callback as its
first argument: the function writes there that it was entered and how it was left.
"""

import asyncio
import functools
from collections import Counter, deque
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from async_after import Callback, aafter_response, after_response

MOST_TOLD = 20
PASSED = frozenset({"succeeded"})

# By state, all that a function may have written.
_SEEN: dict[str, set[tuple[str, ...]]] = {
    "succeeded": {("entered", "returned")},
    "failed": {("entered", "raised"), ("entered", "cancelled")},
    "timed out": {(), ("entered", "returned"), ("entered", "raised"), ("entered", "cancelled")},
    "cancelled": {(), ("entered", "cancelled")},
    "skipped": {()},
    "dropped": {(), ("entered", "cancelled")},
}


class Note:
    __slots__ = ("expected", "is_called", "kind", "seen")

    def __init__(self, kind: str, expected: frozenset[str], is_called: bool) -> None:
        self.kind = kind
        self.expected = expected
        self.is_called = is_called
        """Whether a failure is one of the function itself, not of its predicate."""
        self.seen: list[str] = []


def counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Writes into the note, the first (behind an outcome, the second) argument."""
    if iscoroutinefunction(function):

        @functools.wraps(function)
        async def arun(*args: Any) -> Any:
            seen = _note_of(args).seen
            seen.append("entered")
            try:
                result = await function(*args)
            except BaseException as error:
                seen.append(_how(error))
                raise
            seen.append("returned")
            return result

        return arun

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        seen = _note_of(args).seen
        seen.append("entered")
        try:
            result = function(*args)
        except BaseException as error:
            seen.append(_how(error))
            raise
        seen.append("returned")
        return result

    return run


def _note_of(args: tuple[Any, ...]) -> Note:
    note = args[0] if isinstance(args[0], Note) else args[1]
    assert isinstance(note, Note)
    return note


def _how(error: BaseException) -> str:
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "raised"


Entry = tuple[Note, Callback[Any]]


class Ledger:
    """Any thread adds; only the event loop's sweeps."""

    def __init__(self) -> None:
        self._incoming: deque[Entry] = deque()
        self._open: list[Entry] = []
        self._choices: deque[list[Entry]] = deque()
        self._refused: deque[str] = deque()
        self.registered: Counter[str] = Counter()
        self.in_background = 0
        self.entered: Counter[str] = Counter()
        self.states: dict[str, Counter[str]] = {}
        self.wrong: Counter[str] = Counter()
        self.problems: deque[str] = deque(maxlen=MOST_TOLD)

    def add(
        self,
        kind: str,
        function: Callable[..., Any],
        *args: Any,
        using: Any = after_response,
        expected: frozenset[str] = PASSED,
        is_called: bool = True,
    ) -> Callback[Any]:
        """Register it, and write that down."""
        note = Note(kind, expected, is_called)
        try:
            callback: Callback[Any] = using(function, note, *args)
        except BaseException as error:
            self._refused.append(f"{kind}: not registered: {error!r}")
            raise
        self._incoming.append((note, callback))
        return callback

    async def aadd(self, kind: str, function: Callable[..., Any]) -> None:
        """The same from async code."""
        note = Note(kind, PASSED, True)
        self._incoming.append((note, await aafter_response(function, note)))

    def add_choice(self, kind: str, function: Callable[..., Any], usings: list[Any]) -> None:
        """Register one with each: exactly one of them must succeed."""
        entries: list[Entry] = []
        for using in usings:
            note = Note(kind, frozenset({"succeeded", "skipped"}), True)
            entries.append((note, using(function, note)))
        self._incoming.extend(entries)
        self._choices.append(entries)

    def sweep(self, *, is_last: bool = False) -> int:
        """Settle those that are done; how many are not. ``is_last``: nothing
        will change any more, and a function may still be inside a thread."""
        for _ in range(len(self._incoming)):
            entry = self._incoming.popleft()
            self.registered[entry[0].kind] += 1
            self.in_background += entry[1].options.lane == "background"
            self._open.append(entry)
        for _ in range(len(self._refused)):
            self._report("refused", self._refused.popleft())
        is_open = []
        for entry in self._open:
            note, callback = entry
            if callback.done() and (is_last or len(note.seen) != 1):
                self._settle(note, callback, is_last)
            else:
                is_open.append(entry)
        self._open = is_open
        for _ in range(len(self._choices)):
            entries = self._choices.popleft()
            states = [callback.state.value for _, callback in entries]
            if not all(callback.done() for _, callback in entries):
                self._choices.append(entries)
            elif states.count("succeeded") != 1:
                self._report(entries[0][0].kind, f"{entries[0][0].kind}: {states}")
        return len(self._open)

    def _settle(self, note: Note, callback: Callback[Any], is_last: bool) -> None:
        state, seen = callback.state.value, tuple(note.seen)
        self.states.setdefault(note.kind, Counter())[state] += 1
        self.entered[note.kind] += seen.count("entered")
        may_see = _SEEN[state]
        if state == "failed" and not note.is_called:
            may_see = {()}
        if is_last and state == "dropped":
            may_see = {*may_see, ("entered",)}
        if state not in note.expected or seen not in may_see:
            error = callback.exception() if state == "failed" else None
            self._report(note.kind, f"{note.kind}: {state}, the function saw {seen}: {error!r}")

    def _report(self, kind: str, problem: str) -> None:
        self.wrong[kind] += 1
        self.problems.append(problem)

    def waiting(self) -> int:
        """How many functions have not been entered, of those not settled."""
        return sum(not note.seen for note, _ in self._open)

    def unsettled(self) -> list[str]:
        """Those not accounted for, for the report."""
        return [f"{n.kind}: {c.state.value}, the function saw {n.seen}" for n, c in self._open]

    def told(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "kinds": {
                kind: {
                    "registered": count,
                    "entered": self.entered[kind],
                    "wrong": self.wrong[kind],
                    "states": self.states.get(kind, {}),
                }
                for kind, count in sorted(self.registered.items())
            },
            "in_background": self.in_background,
            "unsettled": len(self._open),
            "wrong": sum(self.wrong.values()),
            "problems": [*self.problems, *self.unsettled()[:MOST_TOLD]],
        }


ledger = Ledger()
