"""What takes one slot of the runner: a chain of callbacks, or a concurrent one.

Promise 6, in_order: the sequential callbacks of an exchange are one chain,
which starts the next one when the last has ended.
"""

from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from typing import Any, Protocol

from ..exchange import Callback, CallbackState, Exchange, Lane, Ledger
from ..lanes import InlineLane
from ..runtime import Latch, log

_LOOPS: tuple[Lane, ...] = ("loop", "background")

CLOSED_RUNNER = "the runner has shut down"


class Starter(Protocol):
    """Who takes callbacks to their lanes, seen from below."""

    ledger: Ledger

    @property
    def is_shut(self) -> bool: ...
    def started(self, callback: Callback[Any]) -> None: ...
    def start_async(self, chain: "Chain", callback: Callback[Any]) -> bool: ...
    def start_in_thread(self, chain: "Chain") -> bool:
        """``False`` if it waits for a thread, without its slot."""

    def give_back(self) -> bool:
        """In a change: the slot of a chain, if nobody waits for one; whether it is so."""

    def release(self) -> None:
        """Give the slot back, or pass it on."""

    def timeout_of(self, callback: Callback[Any]) -> float | None: ...
    def give_up(
        self, callback: Callback[Any], state: CallbackState, reason: str | None = None
    ) -> None:
        """Settle a plain function that cannot be stopped, and go on behind it."""


class Chain:
    """The chain of an exchange's sequential callbacks. It has a slot while one of them runs."""

    __slots__ = (
        "exchange",
        "finished",
        "following",
        "has_waited",
        "is_over",
        "single",
        "starter",
        "timeout_of",
    )

    goes_on = True
    is_single = False

    def __init__(self, starter: Starter, exchange: Exchange) -> None:
        self.starter: Starter = starter
        self.timeout_of: Callable[[Callback[Any]], float | None] = starter.timeout_of
        self.exchange: Exchange = exchange
        self.single: Callback[Any] | None = None
        """The concurrent one, where it is one, until it is taken."""
        self.finished: Callback[Any] | None = None
        """The one that was finished last, for the worker that has run it."""
        self.following: Callback[Any] | None = None
        """The one that runs in the place of the one that was finished last."""
        self.has_waited: bool = False
        """For a thread: it is among the first to have one, and a slot."""
        self.is_over: bool = False
        """Nothing was left, and the claim is given back, and the slot."""

    @property
    def is_shut(self) -> bool:
        """Whether callbacks are not started any more."""
        return self.starter.is_shut

    def take(self, lanes: Sequence[Lane] | None = None) -> Callback[Any] | None:
        """The next callback to run, RUNNING, if it belongs to one of these
        lanes; those not wanted are SKIPPED on the way."""
        exchange, starter, single = self.exchange, self.starter, self.single
        if starter.is_shut:
            self.drop(CLOSED_RUNNER)
        if single is None and self.is_single:
            return None
        while (callback := exchange.next(lanes, single)) is not None:
            self.single = None  # see invoke.call
            try:
                if callback.options.when == "always" or callback.options.wants(exchange.sealed):
                    ledger = starter.ledger
                    if ledger.hooks.started or ledger.room is not None:
                        starter.started(callback)
                    return callback
                callback._began = None
                exchange.settle(callback, CallbackState.SKIPPED)
            except Exception as error:  # it is RUNNING, and ours
                exchange.settle(callback, CallbackState.FAILED, exception=error)
        return None

    def give_back(self) -> None:
        """In a change: it is over, if the slot can be given back at once."""
        self.is_over = self.starter.give_back()

    def __iter__(self) -> Iterator[Callback[Any]]:
        """All of them, RUNNING, one after another; then the claim is given back."""
        while not self.is_empty():
            while (callback := self.take()) is not None:
                yield callback

    def is_empty(self) -> bool:
        """Whether there is nothing left; the claim to it is given back then."""
        return self.exchange.give_back()

    def let_go(self) -> None:
        """Something has raised where it was run: others may claim what is left of it."""
        self.exchange.reclaim(self.single if self.is_single else None)

    def has_nothing(self) -> bool:
        """The same, in a change."""
        return self.exchange.queue.has_nothing()

    def go(self) -> bool:
        """Start the next callback; ``False`` when there is none left, or when it waits for a
        thread: it needs no slot then."""
        self.is_over = False
        while True:
            # A plain function is taken in the thread that runs it: until
            # there is one it is PENDING.
            callback = self.take(_LOOPS)
            if callback is not None:
                try:
                    if self.starter.start_async(self, callback):
                        return True
                except Exception as error:
                    self.lose(callback, error)
            elif self.is_empty():
                return False
            else:
                try:
                    return self.starter.start_in_thread(self)
                except Exception as error:  # no thread can be started, say
                    if (callback := self.take()) is not None:
                        self.lose(callback, error)

    def set_out(self) -> None:
        """It has a slot and a thread, and begins in a moment."""
        self.exchange.queue.set_out(self.starter.ledger, None)

    def lose(self, callback: Callback[Any], error: Exception) -> None:
        """It cannot be started."""
        log(
            "exception",
            "callback_not_started",
            "callback %s cannot be started",
            callback.describe(),
            of=callback,
        )
        self.exchange.drop(callback, f"it cannot be started: {error}")

    def drop(self, reason: str) -> None:
        """Give up what has not been started."""
        single = self.single
        if single is None and self.is_single:
            return
        while (callback := self.exchange.next(None, single)) is not None:
            callback._began = None
            try:
                self.exchange.drop(callback, reason)
            except Exception:  # it is RUNNING, and ours
                self.exchange.drop(callback, reason)

    def abandon(self, reason: str) -> None:
        """The same, and the claim to it: this chain will not be started."""
        while not self.is_empty():
            self.drop(reason)

    def advance(self) -> None:
        """A callback of this chain has ended: go on, or give the slot back."""
        if not self.go():
            self.starter.release()


class SingleChain(Chain):
    """One concurrent callback."""

    __slots__ = ()

    is_single = True

    def __init__(self, starter: Starter, exchange: Exchange, callback: Callback[Any]) -> None:
        super().__init__(starter, exchange)
        self.single = callback

    def set_out(self) -> None:
        if (callback := self.single) is not None:
            self.exchange.queue.set_out(self.starter.ledger, callback)

    def is_empty(self) -> bool:
        callback = self.single
        return callback is None or callback.state is not CallbackState.PENDING

    has_nothing = is_empty


class Alone:
    """Stands in for a chain in a lane that is to run one of its callbacks, and no other."""

    goes_on = False
    is_over = False
    following = None

    def __init__(self, chain: Chain) -> None:
        self.exchange: Exchange = chain.exchange
        self.over: Latch = Latch()
        self._chain = chain

    def take(self, lanes: Sequence[Lane] | None = None) -> None:
        return None

    def drop(self, reason: str) -> None:
        pass

    def advance(self) -> None:
        self.over.open()

    def timeout_of(self, callback: Callback[Any]) -> float | None:
        return self._chain.timeout_of(callback)


async def run_alone(lane: InlineLane, chain: Chain, callback: Callback[Any]) -> None:
    """Run this callback of the chain, and only this one."""
    alone = Alone(chain)
    steps = lane.start(alone, callback)
    if steps is not None and hasattr(steps, "task"):
        # Somebody waits here: whatever becomes of the task, it comes to an end.
        steps.task.add_done_callback(steps.mourn, context=Context())
    await alone.over.wait()
