"""What a run of ``soak`` has brought to light."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .load import Tally

LAST = {"last-async": 30, "last-sync": 8, "never": 2}
"""How many requests with each are answered before SIGTERM comes."""
NEVER = 2 * LAST["never"]
TRACES = (
    "was never awaited",
    "was destroyed but",
    "exception was never retrieved",
    "Exception ignored in",
    "cannot be started",
    "work in a worker thread failed",
    "cleaning up after a callback failed",
)
"""Log lines of which there must be none."""
NAMED = tuple(
    f"callback bench.soak.work.never_{kind} of GET /plain (200) was dropped"
    for kind in ("async", "sync")
)
"""What the shutdown must say of each that it gives up."""


@dataclass(slots=True)
class Findings:
    tally: Tally = field(default_factory=Tally)
    before: dict[str, Any] = field(default_factory=dict)
    """The census behind the warm-up."""
    after: dict[str, Any] = field(default_factory=dict)
    """And behind the load."""
    memory: dict[str, int] = field(default_factory=dict)
    """In KiB, by moment."""
    garbage: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By kind of requests, see ``census.garbage``."""
    rest: dict[str, Any] = field(default_factory=dict)
    """The books when all callbacks had ended."""
    final: dict[str, Any] = field(default_factory=dict)
    """The books at the very end; empty if it did not come to that."""
    undrawn: list[str] = field(default_factory=list)
    """Kinds that no client asked for."""
    code: int | None = None
    """Of the process; ``None`` if it did not end by itself."""
    end_seconds: float = 0.0
    log: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, list[str]] = field(default_factory=dict)
    """What the log said at the first of each."""
