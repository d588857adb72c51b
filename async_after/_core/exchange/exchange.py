"""One request: registering callbacks, its end, handing them out, settling them.

A pure state machine: adapters feed it five events (``start``, ``body``, ``complete``,
``disconnect``, ``end``). It knows neither event loop nor runner.

Promise 1, never_before: it hands out none before ``end``.
Promise 14, late: what is registered after the end is dispatched at once.
"""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from ..runtime import Latch, process
from .callback import Callback, close_unstarted
from .host import Host
from .options import Lane
from .outcome import Outcome
from .queue import CallbackQueue
from .response import ResponseState
from .state import PENDING, CallbackState


class Exchange(ResponseState):
    """One request and its response (RFC 9110, 3.4)."""

    __slots__ = ("__weakref__", "_queue", "host", "parent", "request", "response")

    def __init__(
        self,
        host: "Host[Exchange]",
        method: str | None = None,
        path: str | None = None,
        parent: "Exchange | None" = None,
    ) -> None:
        # All in one place, and no call more than needed: every request pays.
        self.host: Host[Any] = host
        self.method: str | None = method
        self.path: str | None = path
        self.parent: Exchange | None = parent
        """The exchange in whose context this one began, while it is open."""
        self.request: Any = None
        self.response: Any = None
        self.status: int | None = None
        self.error: BaseException | None = None
        self.body_bytes: int | None = 0
        self._headers = ()
        self.has_trailers: bool = False
        self._is_last_offered = False
        self.is_complete: bool = False
        self._is_disconnected = False
        self.is_ended: bool = False
        self._first_byte_at = None
        self._last_at = None
        self._outcome = None
        self._queue: CallbackQueue | None = None
        self._began = monotonic()

    def end(self, error: BaseException | None = None) -> bool:
        """Control is about to go back to the server; are there callbacks to run?
        Only the first call counts: the others answer ``False``.

        It takes no lock where there is nothing to run. ``add`` publishes the queue and then
        looks whether this has ended; here it is the other way round: one sees the other."""
        if self.is_ended:
            return False
        if error is not None or not self.is_complete:
            self._close(error)
        self.is_ended = True
        self.parent = None
        queue = self._queue
        if queue is None:
            self._forget()
            return False
        if queue.asks:
            _ = self.sealed  # now: what the connection carries later belongs to other responses
        with queue.lock:
            must_watch = bool(queue.unready) and not queue.place_acknowledged(self._outcome)
            has_callbacks = queue.unsettled > queue.dormant
            if not has_callbacks:
                queue.claims.clear()
                queue.has_chain = False
                queue.is_over = True
            has_unsettled = queue.unsettled > 0
        if must_watch:
            self.host.watch(self)
        if not has_unsettled:
            self._forget()
        return has_callbacks

    # Registering.

    def add(self, callback: Callback[Any], *, dormant: bool = False) -> None:
        """Register a callback of this exchange; at once dispatched if it is late.

        ``dormant``: it waits for ``ready``, and nobody waits for it. One that
        waits for the delivery does so too, but is waited for.
        """
        replaced: Callback[Any] | None = None
        host, options = self.host, callback.options
        queue = self._queue or self._make_queue()
        with queue.lock:
            if options.key is not None:
                # First, as comparing keys is the user's code, and may raise.
                replaced = queue.keyed.get(options.key)
                queue.keyed[options.key] = callback
            host.admit(self, queue.unsettled == queue.dormant, dormant)
            queue.unsettled += 1
            queue.registered = callback._number = queue.registered + 1
            queue.asks = queue.asks or options.asks
            awaits_delivery = options.when == "acknowledged"
            is_claimable, is_late = False, self.is_ended
            if dormant or awaits_delivery:
                queue.put_off(callback, dormant=dormant)
            else:
                is_claimable = queue.append(callback)
                if queue.is_over:
                    queue.wait_for_slots(host, callback)
        host.registered(callback)
        if replaced is not None:
            self.settle(replaced, CallbackState.CANCELLED, expected=PENDING)
        if is_late and not dormant:
            self._tell_late(self.host.dispatch, is_claimable, awaits_delivery)

    def ready(self, callback: Callback[Any], outcome: Outcome | None = None) -> None:
        """What it waited for has come: it goes to its place in the line, or runs
        late, with an ``outcome`` of its own. Any thread may call."""
        queue = self.queue
        with queue.lock:
            if callback not in queue.unready or callback.done():
                return
            callback._outcome = outcome
            awaits_delivery = callback.options.when == "acknowledged" and outcome is None
            if callback._is_dormant:
                callback._is_dormant = False
                queue.dormant -= 1
                self.host.wake(self)
            is_claimable, is_late = False, self.is_ended
            if not awaits_delivery:
                del queue.unready[callback]
                is_claimable = queue.append(callback, in_order=not queue.is_over)
                if queue.is_over:
                    queue.wait_for_slots(self.host, callback)
        if is_late:
            dispatch = self.host.resume if outcome is None else self.host.dispatch
            self._tell_late(dispatch, is_claimable, awaits_delivery)

    def _tell_late(
        self, dispatch: Callable[["Exchange"], None], is_claimable: bool, awaits_delivery: bool
    ) -> None:
        """One more callback has come behind the end."""
        if awaits_delivery:
            self.host.watch(self)
        elif is_claimable:
            dispatch(self)
        else:
            self.host.queued(self)

    def skip_dormant(self, callback: Callback[Any]) -> None:
        """What it waited for will never come. Any thread may call."""
        with self.queue.lock:
            is_dormant = callback._is_dormant
        if is_dormant:
            self.settle(callback, CallbackState.SKIPPED, expected=PENDING)

    # Handing out.

    def claim(self) -> list[Callback[Any] | None]:
        """What is to be started now, in order: concurrent callbacks, and ``None`` for the
        sequential ones, which the claimer takes with ``next``. Empty before the end."""
        queue = self._queue
        return [] if queue is None or not self.is_ended else queue.claim(self.host)

    def set_out(self, callback: Callback[Any] | None = None) -> None:
        """It, by default the next in line, has a slot, and waits only for a thread."""
        self.queue.set_out(self.host, callback)

    def next(self, lanes: Sequence[Lane] | None = None) -> Callback[Any] | None:
        """The next sequential callback, now RUNNING; ``None`` if there is none,
        or if it belongs to none of these lanes. One that is not wanted needs no lane.

        It takes no lock to see none: one that is registered now is seen in ``give_back``."""
        queue = self._queue
        if queue is None or not queue.sequential:
            return None
        return queue.next(self.host, lanes, self.sealed if queue.asks else None)

    def follow(
        self, callback: Callback[Any], result: Any, lanes: Sequence[Lane]
    ) -> Callback[Any] | None:
        """``callback`` has succeeded: settle it, and return the next one as ``next`` does, both
        at once. ``None``, and nothing done, where there is more to it."""
        queue = self._queue
        if queue is None or not queue.sequential:
            return None
        return queue.follow(self.host, callback, result, lanes)

    def give_back(self) -> bool:
        """Give up the claim to the sequential callbacks, if there is none left."""
        return self.queue.give_back()

    def begin(self, callback: Callback[Any]) -> bool:
        """Make a concurrent callback RUNNING; ``False`` if it was cancelled meanwhile."""
        return self.queue.begin(self.host, callback)

    # Settling.

    def settle(
        self,
        callback: Callback[Any],
        state: CallbackState,
        result: Any = None,
        exception: BaseException | None = None,
        *,
        reason: str | None = None,
        expected: CallbackState | None = None,
    ) -> bool:
        """Give a callback its final state; ``False`` if it has one already (or
        is not in the ``expected`` one). ``reason``: why it is dropped."""
        queue = self._queue
        assert queue is not None, "an exchange that has callbacks"
        dropped = queue.settle(self.host, callback, state, result, exception, reason, expected)
        if dropped is None:
            return False
        if dropped[0] is not None:
            close_unstarted(dropped[0])
        del dropped
        self.host.settled(callback)
        if callback._latch is not None:
            callback._latch.open()
        latch = kept = None
        # Only now does it stop to count as unsettled: whoever sees the
        # exchange idle finds every callback logged and accounted for.
        with queue.lock:
            queue.unsettled -= 1
            if callback._is_dormant:
                callback._is_dormant = False
                queue.dormant -= 1
            if queue.unsettled > queue.dormant:
                return True
            has_dormant = bool(queue.dormant)
            if self.is_ended:
                if not has_dormant:
                    # First: whoever sees it idle finds that it keeps nothing. Not
                    # dropped under the lock: a destructor may register.
                    kept = self.request, self.response
                    self._forget()
                latch, queue.latch = queue.latch, None
            self.host.idle(self, has_dormant)
        del kept
        if latch is not None:
            latch.open()
        return True

    def drop(self, callback: Callback[Any], reason: str, *, if_pending: bool = False) -> bool:
        """Give it up; ``False`` if it has ended already (or, ``if_pending``, started)."""
        expected = PENDING if if_pending else None
        return self.settle(callback, CallbackState.DROPPED, reason=reason, expected=expected)

    def _forget(self) -> None:
        """Promise 15: an exchange that is through keeps outcome and counters only."""
        self.request = self.response = None

    # What a runner asks.

    def pending(self) -> list[Callback[Any]]:
        """Those that have not begun. For the runner at shutdown."""
        return [] if self._queue is None else self._queue.pending()

    def dormant(self) -> list[Callback[Any]]:
        """Those that nobody waits for, as what they wait for may never come."""
        return [] if self._queue is None else self._queue.dormant_ones()

    def idle_latch(self) -> Latch:
        """Opens when the exchange has ended and no callback is left, but for dormant ones."""
        return (self._queue or self._make_queue()).idle_latch(self)

    # What a callback asks of its exchange (``callback.Owner``).

    def latch(self, callback: Callback[Any]) -> Latch:
        return self.queue.latch_of(callback)

    def _seal_once(self) -> Outcome:
        with (self._queue or self._make_queue()).lock:
            if self._outcome is None:
                self._outcome = self._seal()
            return self._outcome

    def _make_queue(self) -> CallbackQueue:
        with process.making:
            if self._queue is None:
                self._queue = CallbackQueue()
            return self._queue

    @property
    def queue(self) -> CallbackQueue:
        """Its callbacks, where it has some."""
        queue = self._queue
        assert queue is not None, "an exchange that has callbacks"
        return queue
