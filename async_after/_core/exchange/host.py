"""What an exchange asks of who runs its callbacks."""

from collections.abc import Awaitable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from .callback import Callback
from .ledger import Ledger
from .state import CallbackState

E = TypeVar("E", contravariant=True)


class Host(Protocol[E]):
    """Who runs an exchange's callbacks, seen from below. Nothing of it is called in a change."""

    ledger: Ledger
    """The books, and their lock: those of the runner."""
    counts_waiting: bool
    """Whether its callbacks need slots at all."""
    is_closing: bool
    """The runner is being closed for its exchanges too."""
    closes_with_runner: bool
    """Whether that is so for this exchange's own host, of which the runner does not know."""

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

    def started(self, callback: Callback[Any]) -> None:
        """It is RUNNING: tell the instruments, if there are any."""

    def settled(self, callback: Callback[Any]) -> None:
        """It has ended: say so. Not called where nobody hears of it."""

    def refuse_overflow(self, name: str) -> None:
        """Raise ``RunnerFull`` if there is no room for callback ``name``, and that
        is what the runner is to do then."""

    def wait_for_room(self, exchange: E) -> Awaitable[None]:
        """Wait while the runner is full; a place in the line is then kept for this exchange."""

    def give_up(
        self, callback: Callback[Any], state: CallbackState, reason: str | None = None
    ) -> None:
        """Settle a running callback that cannot be stopped, and go on behind it."""

    def lending(self, callback: Callback[Any]) -> AbstractContextManager[None]:
        """While inside, this running callback only waits for another one."""
