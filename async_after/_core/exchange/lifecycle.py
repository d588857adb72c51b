"""The callbacks of one exchange: registered, handed out, settled.

Promise 1, never_before: it hands out none before ``end``.
Promise 2, once_or_accounted: each is handed out once, and registering and ending are
atomic against each other.
Promise 6, in_order: sequential callbacks are handed out first-in, first-out.
Promise 14, late: what is registered after the end is dispatched at once.
"""

import inspect
from collections.abc import Sequence
from itertools import chain
from types import CoroutineType
from typing import Any

from ..runtime import process
from .callback import PENDING, RUNNING, SUCCEEDED, Callback, CallbackState, Lane
from .host import Host
from .outcome import Outcome
from .queue import CallbackQueue
from .response import ResponseState


class CallbackLifecycle(ResponseState):
    """The part of an ``Exchange`` that deals with its callbacks."""

    __slots__ = ("_queue", "host", "request", "response")

    host: Host[Any]
    request: Any
    response: Any
    _queue: CallbackQueue | None

    def add(self, callback: Callback[Any], *, dormant: bool = False) -> None:
        """Register a callback of this exchange; at once dispatched if it is late.

        ``dormant``: it waits for ``ready``, and nobody waits for it. One that
        waits for the delivery does so too, but is waited for.
        """
        replaced: Callback[Any] | None = None
        host, options = self.host, callback.options
        queue = self._queue
        if queue is None:
            queue = self._make_queue()
        with queue.lock:
            if options.key is not None:
                # First, as comparing keys is the user's code, and may raise.
                replaced = queue.keyed.get(options.key)
                queue.keyed[options.key] = callback
            host.admit(self, queue.unsettled == queue.dormant, dormant)
            queue.unsettled += 1
            queue.registered = callback._number = queue.registered + 1
            is_claimable, is_late, awaits_delivery = False, self._is_ended, False
            if options.asks:
                queue.asks = True
                awaits_delivery = options.when == "acknowledged"
            is_ready = not dormant and not awaits_delivery
            if is_ready:
                is_claimable = queue.append(callback)
            else:
                queue.unready[callback] = None
                callback._is_dormant = dormant
                queue.dormant += dormant
            if is_ready and queue.is_over:
                self._wait(callback)
        host.registered(callback)
        if replaced is not None:
            self.settle(replaced, CallbackState.CANCELLED, expected=PENDING)
        if not is_late:
            return
        if is_claimable:
            self.host.dispatch(self)
        elif is_ready:
            self.host.queued(self)
        elif not dormant:
            self.host.watch(self)

    def ready(self, callback: Callback[Any], outcome: Outcome | None = None) -> None:
        """What it waited for has come: it goes to its place in the line, or runs
        late, with an ``outcome`` of its own. Any thread may call."""
        queue = self._registered()
        with queue.lock:
            if callback not in queue.unready or callback.done():
                return
            callback._outcome = outcome
            awaits_delivery = callback.options.when == "acknowledged" and outcome is None
            self._wake(queue, callback)
            is_late, is_claimable = self._is_ended, False
            if not awaits_delivery:
                del queue.unready[callback]
                is_claimable = queue.append(callback, in_order=not queue.is_over)
            if not awaits_delivery and queue.is_over:
                self._wait(callback)
        if not is_late:
            return
        if awaits_delivery:
            self.host.watch(self)
        elif is_claimable and outcome is None:
            self.host.resume(self)
        elif is_claimable:
            self.host.dispatch(self)
        else:
            self.host.queued(self)

    def skip_dormant(self, callback: Callback[Any]) -> None:
        """What it waited for will never come. Any thread may call."""
        with self._registered().lock:
            is_dormant = callback._is_dormant
        if is_dormant:
            self.settle(callback, CallbackState.SKIPPED, expected=PENDING)

    def _wake(self, queue: CallbackQueue, callback: Callback[Any]) -> None:
        if callback._is_dormant:
            callback._is_dormant = False
            queue.dormant -= 1
            self.host.wake(self)

    def _tell_over(self, queue: CallbackQueue) -> None:
        """It has ended, and is to be run: its pending callbacks wait for slots. Under the lock."""
        queue.is_over = True
        if self.host.counts_waiting:
            waiting = 0
            for callback in chain(queue.sequential, queue.claims):
                if callback is not None and callback._state is PENDING:
                    callback._is_waiting = True
                    waiting += 1
            self.host.queue(waiting)

    def _wait(self, callback: Callback[Any]) -> None:
        if self.host.counts_waiting:
            callback._is_waiting = True
            self.host.queue(1)

    def set_out(self, callback: Callback[Any] | None = None) -> None:
        """This one has a slot now, and begins as soon as there is a thread for
        it; by default the next sequential one."""
        queue = self._registered()
        with queue.lock:
            callback = callback or queue.head()
            if callback is not None and callback._is_waiting:
                callback._is_waiting = False
                self.host.queue(-1)

    def claim(self) -> list[Callback[Any] | None]:
        """What is to be started now, in the order of registration: concurrent
        callbacks, and ``None`` for the sequential ones, which the claimer
        takes with ``next`` until there is none. Empty before the end."""
        queue = self._queue
        if queue is None or not self._is_ended:
            return []
        with queue.lock:
            if not queue.is_over:
                self._tell_over(queue)
            claims, queue.claims = queue.claims, []
            for claim in claims:
                if claim is not None and not claim.done():
                    queue.handed[claim] = None
            return claims

    def next(self, lanes: Sequence[Lane] | None = None) -> Callback[Any] | None:
        """The next sequential callback, now RUNNING; ``None`` if there is none,
        or if it belongs to none of these lanes. One that is not wanted needs no lane.

        It takes no lock to see none: one that is registered now is seen in ``give_back``."""
        queue = self._queue
        if queue is None or not queue.sequential:
            return None
        with queue.lock:
            callback = queue.head()
            if callback is None:
                return None
            if lanes is not None and callback.home not in lanes:
                when = callback.options.when
                if when == "always" or callback.options.wants(self._sealed(queue)):
                    return None
            queue.sequential.popleft()
            self._begin(callback)
            return callback

    def follow(
        self, callback: Callback[Any], result: Any, lanes: Sequence[Lane]
    ) -> Callback[Any] | None:
        """``callback`` has succeeded: settle it, and return the next one as ``next``
        does, both at once. ``None``, and nothing done, where there is more to it.

        So the next one is RUNNING when instruments hear of the end of this one."""
        queue = self._queue
        if queue is None or not queue.sequential:
            return None
        with queue.lock:
            following = queue.head()
            if (
                following is None
                or following.home not in lanes
                or following.options.when != "always"
                or callback.options.key is not None
                or callback._latch is not None
                or callback._returned is not None
                or callback._state is not RUNNING
            ):
                return None
            queue.sequential.popleft()
            queue.unsettled -= 1
            callback._result = result
            callback._state = SUCCEEDED
            # Dropped when the lock is free again: a destructor may register.
            dropped = callback._task, callback._context
            callback._task = callback._context = callback._stop = None
            following._state = RUNNING
            was_waiting, following._is_waiting = following._is_waiting, False
            self.host.turn(callback, following, was_waiting)
        del dropped
        return following

    def give_back(self) -> bool:
        """Give up the claim to the sequential callbacks, if there is none left."""
        queue = self._registered()
        with queue.lock:
            if queue.head() is not None:
                return False
            queue.has_chain = False
            return True

    def begin(self, callback: Callback[Any]) -> bool:
        """Make a concurrent callback RUNNING; ``False`` if it was cancelled meanwhile."""
        queue = self._registered()
        with queue.lock:
            if callback._state is not PENDING:
                return False
            queue.handed.pop(callback, None)
            queue.unready.pop(callback, None)
            self._begin(callback)
            return True

    def _begin(self, callback: Callback[Any]) -> None:
        callback._state = RUNNING
        was_waiting, callback._is_waiting = callback._is_waiting, False
        self.host.move(callback, PENDING, RUNNING, was_waiting)

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
        queue = self._registered()
        # What a callback drops is dropped when the lock is free again: a
        # destructor may register.
        dropped: Any
        with queue.lock:
            before = callback._state
            if before is not (expected or RUNNING) and (
                expected is not None or before is not PENDING
            ):
                return False
            callback._result = result
            callback._exception = exception
            if reason is not None:
                callback._reason = reason
            callback._state = state
            returned = callback._returned
            dropped = callback._task, callback._context, returned
            callback._task = callback._context = callback._stop = callback._returned = None
            latch = callback._latch
            key = callback.options.key
            if key is not None and queue.keyed.get(key) is callback:
                del queue.keyed[key]
            if before is PENDING:
                queue.handed.pop(callback, None)
                queue.unready.pop(callback, None)
                queue.bury()
            was_waiting, callback._is_waiting = callback._is_waiting, False
            self.host.move(callback, before, state, was_waiting)
        if returned is not None:
            _close_unstarted(returned)
        del dropped
        self.host.settled(callback)
        if latch is not None:
            latch.open()
        # Only now does it stop to count as unsettled: whoever sees the
        # exchange idle finds every callback logged and accounted for.
        with queue.lock:
            queue.unsettled -= 1
            if callback._is_dormant:
                callback._is_dormant = False
                queue.dormant -= 1
            if queue.awake:
                return True
            has_dormant = bool(queue.dormant)
            dropped = None
            if not self._is_ended:
                self.host.idle(self, has_dormant)
                return True
            if not has_dormant:
                # First: whoever sees it idle finds that it keeps nothing. Not
                # dropped under the lock: a destructor may register.
                dropped = self.request, self.response
                self._forget()
            self.host.idle(self, has_dormant)
            latch, queue.latch = queue.latch, None
        del dropped
        if latch is not None:
            latch.open()
        return True

    # The outcome, which some callbacks ask for.

    @property
    def sealed(self) -> Outcome:
        """The outcome, for callbacks: those exist after the end only."""
        queue = self._queue or self._make_queue()
        outcome = queue.outcome
        if outcome is None:
            with queue.lock:
                outcome = self._sealed(queue)
        return outcome

    def _sealed(self, queue: CallbackQueue) -> Outcome:
        """The same, under the lock."""
        if queue.outcome is None:
            queue.outcome = self._seal()
        return queue.outcome

    def _make_queue(self) -> CallbackQueue:
        with process.making:
            queue = self._queue
            if queue is None:
                queue = self._queue = CallbackQueue()
            return queue

    def _registered(self) -> CallbackQueue:
        queue = self._queue
        assert queue is not None, "an exchange that has callbacks"
        return queue

    def _forget(self) -> None:
        """Promise 15: an exchange that is through keeps outcome and counters only."""
        self.request = self.response = None


def _close_unstarted(returned: Any) -> None:
    """Nobody will await what a plain function has returned at its timeout."""
    if (
        isinstance(returned, CoroutineType)
        and inspect.getcoroutinestate(returned) == inspect.CORO_CREATED
    ):
        returned.close()
