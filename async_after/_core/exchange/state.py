"""The states of a callback, from its registration to its end."""

from collections.abc import Mapping
from enum import Enum


class CallbackState(Enum):
    __module__ = "async_after"
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It raised."""
    TIMED_OUT = "timed out"
    """It did not end within its timeout."""
    CANCELLED = "cancelled"
    """``Callback.cancel()``, or a later registration of the same key."""
    SKIPPED = "skipped"
    """The outcome was not the one it was registered for."""
    DROPPED = "dropped"
    """The runner gave it up, at shutdown say. It is logged by name."""


NEXT: Mapping[CallbackState, Mapping[CallbackState, str]] = {
    CallbackState.PENDING: {
        CallbackState.RUNNING: "it has a slot",
        CallbackState.SKIPPED: "when= says no",
        CallbackState.CANCELLED: "cancel(), or its key again",
        CallbackState.DROPPED: "overflow, shutdown",
    },
    CallbackState.RUNNING: {
        CallbackState.SUCCEEDED: "it returns",
        CallbackState.FAILED: "it raises",
        CallbackState.TIMED_OUT: "its timeout",
        CallbackState.SKIPPED: "its predicate says no",
        CallbackState.CANCELLED: "cancel()",
        CallbackState.DROPPED: "shutdown",
    },
}
"""What may become of a callback, and why. A state that leads nowhere is final."""

# Looking a member up in its Enum costs ten times as much as a global, with every callback.
PENDING = CallbackState.PENDING
RUNNING = CallbackState.RUNNING
SUCCEEDED = CallbackState.SUCCEEDED


class CallbackNotRun(Exception):
    """The callback ended without a result: it was cancelled, skipped or dropped."""

    __module__ = "async_after"

    def __init__(self, name: str, state: CallbackState, reason: str | None = None) -> None:
        super().__init__(name, state, reason)
        self.name = name
        self.state = state
        self.reason = reason
        """Why it was dropped."""

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"callback {self.name} has no result: it was {self.state.value}{reason}"
