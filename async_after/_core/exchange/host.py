"""What an exchange asks of who runs its callbacks."""

from collections.abc import Awaitable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from .callback import Callback
from .state import CallbackState

E = TypeVar("E", contravariant=True)


class Host(Protocol[E]):
    """Who runs an exchange's callbacks, seen from below.

    ``admit``, ``wake``, ``move``, ``turn``, ``count_waiting`` and ``idle`` are called under
    the lock of the exchange: they only keep books. *Waiting* are the pending callbacks
    of exchanges that have ended, until they have a slot.
    """

    counts_waiting: bool
    """Whether its callbacks need slots at all."""
    is_closing: bool
    """The runner is being closed for its exchanges too."""
    closes_with_runner: bool
    """Whether that is so for this exchange's own host, of which the runner does not know."""

    def admit(self, exchange: E, first: bool, dormant: bool) -> None:
        """One more callback is pending; ``first``: the exchange had none unsettled,
        ``dormant``: nobody is to wait for it. (What is dormant comes on top.)"""

    def wake(self, exchange: E) -> None:
        """One of the dormant ones is not so any more."""

    def move(
        self,
        callback: Callback[Any],
        before: CallbackState,
        after: CallbackState,
        was_waiting: bool,
    ) -> None:
        """A callback has another state."""

    def turn(self, ended: Callback[Any], begun: Callback[Any], was_waiting: bool) -> None:
        """The one has succeeded, and the other one is running in its place."""

    def count_waiting(self, count: int) -> None:
        """So many more callbacks are waiting; below 0: have been given a slot."""

    def idle(self, exchange: E, has_dormant: bool) -> None:
        """The exchange has no unsettled callback any more, but for dormant ones."""

    def registered(self, callback: Callback[Any]) -> None:
        """Tell the instruments, if there are any."""

    def dispatch(self, exchange: E) -> None:
        """An ended exchange has callbacks to claim. Any thread may call."""

    def resume(self, exchange: E) -> None:
        """The same, in the thread of what has made one ready, behind the end."""

    def watch(self, exchange: E) -> None:
        """The exchange has ended: make those that wait for it ready when the
        response is acknowledged, or skip them."""

    def queued(self, exchange: E) -> None:
        """An ended exchange has one more callback, behind those that are claimed."""

    def settled(self, callback: Callback[Any]) -> None: ...

    def refuse_overflow(self, name: str) -> None:
        """Raise ``RunnerFull`` if there is no room for callback ``name``, and that
        is what the runner is to do then."""

    def wait_for_room(self) -> Awaitable[None]: ...

    def give_up(
        self, callback: Callback[Any], state: CallbackState, reason: str | None = None
    ) -> None:
        """Settle a running callback that cannot be stopped, and go on behind it."""

    def lending(self, callback: Callback[Any]) -> AbstractContextManager[None]:
        """While inside, this running callback only waits for another one."""
