"""What takes one slot of the runner: a chain of callbacks, or a concurrent one.

Promise 6, in_order: the sequential callbacks of an exchange are one chain,
which starts the next one when the last has ended.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from ..exchange import Callback, CallbackState, Exchange, Lane
from ..lanes import InlineLane
from ..runtime import Latch, log

_LOOPS: tuple[Lane, ...] = ("loop", "background")

CLOSED_RUNNER = "the runner has shut down"


class Starter(Protocol):
    """Who takes callbacks to their lanes, seen from below."""

    @property
    def is_shut(self) -> bool: ...
    def started(self, callback: Callback[Any]) -> None: ...
    @property
    def settled(self) -> Callable[[Callback[Any]], None]: ...
    def start_async(self, chain: "Chain", callback: Callback[Any]) -> bool: ...
    def start_in_thread(self, chain: "Chain") -> bool: ...
    def release(self) -> None:
        """Give the slot back."""

    def timeout_of(self, callback: Callback[Any]) -> float | None: ...


class Chain:
    """The chain of an exchange's sequential callbacks."""

    __slots__ = ("exchange", "starter")

    def __init__(self, starter: Starter, exchange: Exchange) -> None:
        self.starter: Starter = starter
        self.exchange: Exchange = exchange

    def _set_out(self) -> None:
        self.exchange.set_out()

    def is_closed(self) -> bool:
        """Whether callbacks are not started any more."""
        return self.starter.is_shut

    def take(self, lanes: Sequence[Lane] | None = None) -> Callback[Any] | None:
        """The next callback to run, RUNNING, if it belongs to one of these
        lanes; those not wanted are SKIPPED on the way."""
        exchange = self.exchange
        if self.starter.is_shut:
            self.drop(CLOSED_RUNNER)
        while (callback := self._next(lanes)) is not None:
            if callback.options.when == "always" or callback.options.wants(exchange.sealed):
                self.starter.started(callback)
                return callback
            exchange.settle(callback, CallbackState.SKIPPED)
        return None

    def follow(
        self, callback: Callback[Any], result: Any, lanes: Sequence[Lane]
    ) -> Callback[Any] | None:
        """``callback`` has returned ``result``: settle it, and take the next one;
        ``None``, and nothing done, where that is not all there is to do."""
        starter = self.starter
        if starter.is_shut:
            return None
        following = self.exchange.follow(callback, result, lanes)
        if following is not None:
            starter.settled(callback)
            starter.started(following)
        return following

    def __iter__(self) -> Iterator[Callback[Any]]:
        """All of them, RUNNING, one after another; then the claim is given back."""
        while not self.is_empty():
            while (callback := self.take()) is not None:
                yield callback

    def _next(self, lanes: Sequence[Lane] | None) -> Callback[Any] | None:
        return self.exchange.next(lanes)

    def is_empty(self) -> bool:
        """Whether there is nothing left; the claim to it is given back then."""
        return self.exchange.give_back()

    def go(self) -> bool:
        """Start the next callback; ``False`` when there is none left."""
        while True:
            # A plain function is taken in the thread that runs it: until
            # there is one it is PENDING.
            callback = self.take(_LOOPS)
            if callback is not None:
                if self.start(self.starter.start_async, callback):
                    return True
                continue
            if self.is_empty():
                return False
            self._set_out()
            if self.start(self.starter.start_in_thread):
                return True

    def start(self, start: Callable[..., bool], *callback: Callback[Any]) -> bool:
        """Start this callback, or the next one, in that way; ``False`` if it cannot be."""
        try:
            return start(self, *callback)
        except Exception as error:  # no thread can be started, say
            for lost in callback or filter(None, [self.take()]):
                self.exchange.drop(lost, f"it cannot be started: {error}")
                message = "callback %s cannot be started"
                log("exception", "callback_not_started", message, lost.describe(), of=lost)
            return False

    def drop(self, reason: str) -> None:
        """Give up what has not been started."""
        while (callback := self._next(None)) is not None:
            self.exchange.drop(callback, reason)

    def abandon(self, reason: str) -> None:
        """The same, and the claim to it: this chain will not be started."""
        while not self.is_empty():
            self.drop(reason)

    def advance(self) -> None:
        """A callback of this chain has ended: go on, or give the slot back."""
        if not self.go():
            self.starter.release()

    def timeout_of(self, callback: Callback[Any]) -> float | None:
        return self.starter.timeout_of(callback)


class SingleChain(Chain):
    """One concurrent callback."""

    __slots__ = ("_callback",)

    def __init__(self, starter: Starter, exchange: Exchange, callback: Callback[Any]) -> None:
        super().__init__(starter, exchange)
        self._callback: Callback[Any] | None = callback

    def _next(self, lanes: Sequence[Lane] | None) -> Callback[Any] | None:
        callback = self._callback
        if callback is None:
            return None
        if lanes is not None and callback.home not in lanes:
            when = callback.options.when
            if when == "always" or callback.options.wants(self.exchange.sealed):
                return None
        self._callback = None
        return callback if self.exchange.begin(callback) else None

    def follow(self, callback: Callback[Any], result: Any, lanes: Sequence[Lane]) -> None:
        return None

    def _set_out(self) -> None:
        self.exchange.set_out(self._callback)

    def is_empty(self) -> bool:
        return self._callback is None or self._callback.done()


class Alone:
    """Stands in for a chain in a lane that is to run one of its callbacks, and no other."""

    def __init__(self, chain: Chain) -> None:
        self.exchange: Exchange = chain.exchange
        self.over: Latch = Latch()
        self._chain = chain

    def take(self, lanes: Sequence[Lane] | None = None) -> None:
        return None

    def follow(self, callback: Callback[Any], result: Any, lanes: Sequence[Lane]) -> None:
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
    lane.start(alone, callback)
    await alone.over.wait()
