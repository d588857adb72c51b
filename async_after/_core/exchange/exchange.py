"""One request: registering callbacks, its end, handing them out, settling them.

A pure state machine: adapters feed it five events (``start``, ``body``, ``complete``,
``disconnect``, ``end``). It knows neither event loop nor runner.

Promise 1, never_before: it hands out none before ``end``.
Promise 14, late: what is registered after the end is dispatched at once.
"""

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any, Final

from ..runtime import Latch, check_stack, monotonic
from . import settling
from .callback import Callback
from .following import follow_up, tell_late
from .host import Host
from .options import Lane
from .outcome import Outcome
from .queue import CallbackQueue
from .response import ResponseState
from .state import PENDING, CallbackState
from .waiting import wait_for


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

        It takes no lock: ``add`` publishes the queue and then looks whether this has ended; here
        it is the other way round, and one sees the other."""
        if self.is_ended:
            return False
        if error is not None or not self.is_complete:
            self._close(error)
        self.parent = None
        self.is_ended = True
        if (queue := self._queue) is None:
            self.request = self.response = None  # promise 15, as when the last callback has ended
            return False
        if queue.asks or queue.unready or queue.unsettled <= queue.dormant:
            try:
                return self._end_with(queue)
            except Exception:  # somebody who has more stack does it
                self.host.ledger.gate.asked.append(partial(self._end_with, queue))
        return True

    def _end_with(self, queue: CallbackQueue) -> bool:
        if queue.asks:
            # Now: what the connection carries later belongs to other responses.
            _ = self.sealed
        gate = self.host.ledger.gate
        try:
            gate.acquire()
            if gate.is_busy:
                # Whoever asks for them later finds out how many there are.
                gate.asked.append(partial(self._end_with, queue))
                return True
            gate.is_busy = True
            try:
                must_watch = bool(queue.unready) and not queue.place_acknowledged(self._outcome)
                has_callbacks = queue.unsettled > queue.dormant
                if not has_callbacks:
                    queue.claims.clear()
                    queue.has_chain = False
                    queue.is_over = True
                    self.host.ledger.keep(queue)
            finally:
                gate.is_busy = False
        finally:
            gate.release()
        if gate.asked:
            gate.catch_up()
        if must_watch:
            self.host.watch(self)
        if not queue.unsettled:
            self.request = self.response = None
        return has_callbacks

    # Registering.

    def add(self, callback: Callback[Any], *, dormant: bool = False) -> None:
        """Register a callback of this exchange; at once dispatched if it is late. ``dormant``: it
        waits for ``ready``, and nobody for it. (For one that awaits the delivery somebody does.)
        """
        host, options = self.host, callback.options
        ledger, queue, place, replaced = host.ledger, self._queue, None, None
        if options.key is not None:
            place = self.queue.place_of(options.key)
        if self.is_ended or place is not None or ledger.hooks.registered:
            check_stack()  # more is to be done behind the change
        gate = ledger.gate
        try:
            gate.acquire()
            if callback._number:  # this was put off, and has raised behind that
                return
            if gate.is_busy:
                later = partial(self.add, callback, dormant=dormant)
                gate.asked.append(partial(callback.context().run, later))
                return
            gate.is_busy = True
            try:
                if queue is None:
                    queue = self._publish_queue(CallbackQueue())
                is_late = queue.is_over
                is_claimable = ledger.admit(self, queue, callback, dormant)
                if is_late and host.counts_waiting and callback not in queue.unready:
                    callback._is_waiting = True
                    ledger.waiting += 1
                if place is not None:
                    replaced, place.callback = place.callback, callback
                    callback._place = place
                    callback._is_watched = True
            finally:
                gate.is_busy = False
        finally:
            gate.release()
        if gate.asked:
            try:
                gate.catch_up()
            except Exception:  # it is in the books all the same
                gate.hurry()
        is_late = is_late or (self.is_ended and options.awaits_delivery)
        if is_late or replaced is not None or callback._never or ledger.hooks.registered:
            follow = partial(follow_up, self, callback, replaced, is_late, is_claimable)
            try:
                follow()
            except BaseException:
                gate.asked.append(follow)
                gate.hurry()
                raise

    def ready(self, callback: Callback[Any], outcome: Outcome | None = None) -> None:
        """What it waited for has come: it goes to its place in the line, or runs
        late, with an ``outcome`` of its own. Any thread may call."""
        queue, host, is_claimable = self.queue, self.host, False
        awaits_delivery = callback.options.awaits_delivery and outcome is None
        gate = host.ledger.gate
        try:
            gate.acquire()
            if gate.is_busy:
                gate.asked.append(partial(self.ready, callback, outcome))
                return
            gate.is_busy = True
            try:
                is_late = queue.is_over
                # In the change: who has come back in just before it may have ended it.
                waits = callback in queue.unready and callback._state is PENDING
                if waits:
                    if not awaits_delivery:
                        is_claimable = queue.append(callback, in_order=not is_late)
                        del queue.unready[callback]
                    host.ledger._exchanges.add(self)
                    callback._outcome = outcome
                    queue.dormant -= callback._is_dormant
                    callback._is_dormant = False
                    if is_late and not awaits_delivery and host.counts_waiting:
                        callback._is_waiting = True
                        host.ledger.waiting += 1
            finally:
                gate.is_busy = False
        finally:
            gate.release()
        if gate.asked:
            gate.catch_up()
        if waits and (is_late or (self.is_ended and awaits_delivery)):
            tell = host.resume if outcome is None else host.dispatch
            try:
                tell_late(self, tell, callback, is_claimable)
            except Exception:
                gate.asked.append(partial(tell_late, self, tell, callback, is_claimable))
                gate.hurry()

    def skip_dormant(self, callback: Callback[Any]) -> None:
        """What it waited for will never come. Any thread may call."""
        if callback._is_dormant:
            self.settle(callback, CallbackState.SKIPPED, expected=PENDING)
        elif not callback._number and self._queue is not None:
            # Registered in the middle of a change, and so is this: behind it.
            with (gate := self.host.ledger.gate).lock:
                if gate.is_busy:
                    gate.asked.append(partial(self.skip_dormant, callback))

    # Handing out.

    def claim(self) -> list[Callback[Any] | None]:
        """What is to be started now: concurrent callbacks, and ``None`` for the sequential ones,
        which the claimer takes with ``next``. Empty before the end."""
        queue = self._queue
        return [] if queue is None or not self.is_ended else queue.claim(self.host, self)

    def next(
        self, lanes: Sequence[Lane] | None = None, single: Callback[Any] | None = None
    ) -> Callback[Any] | None:
        """The next sequential callback, or this ``single`` one, now RUNNING; ``None`` if it
        belongs to none of these lanes. One that is not wanted needs no lane."""
        queue = self._queue
        if queue is None or (single is None and not queue.sequential):
            return None
        # Sealed before the lock, where somebody asks.
        outcome = self.sealed if queue.asks and lanes is not None else None
        return queue.next(self.host.ledger, lanes, single, outcome)

    def reclaim(self, *claims: Callback[Any] | None) -> None:
        """These can be claimed again; without any, all that has not begun, and nobody runs."""
        if (queue := self._queue) is not None:
            for claim in claims or (None, *queue.handed):
                queue.reclaim(self.host.ledger, claim)

    def give_back(self) -> bool:
        """Give up the claim to the sequential callbacks, if there is none left."""
        return self.queue.give_back(self.host.ledger)

    settle: Final = settling.finish
    cancel: Final = settling.cancel

    def drop(self, callback: Callback[Any], reason: str, *, if_pending: bool = False) -> bool:
        """Give it up; ``False`` if it has ended already (or, ``if_pending``, started)."""
        expected = PENDING if if_pending else None
        return self.settle(callback, CallbackState.DROPPED, reason=reason, expected=expected)

    # What a runner asks, and what a callback does (``callback.Owner``).

    def pending(self) -> list[Callback[Any]]:
        """Those that have not begun."""
        queue = self._queue
        return [] if queue is None else self.host.ledger.gate.look(queue.pending)

    def dormant(self) -> list[Callback[Any]]:
        """Those that nobody waits for, as what they wait for may never come."""
        queue = self._queue
        return [] if queue is None else self.host.ledger.gate.look(queue.dormant_ones)

    def idle_latch(self) -> Latch:
        """Opens when the exchange has ended and no callback is left, but for dormant ones."""
        return self.queue.idle_latch(self.host.ledger, self)

    def latch(self, callback: Callback[Any]) -> Latch:
        return self.queue.latch_of(self.host.ledger, callback)

    def wait_for(self, callback: Callback[Any], timeout: float | None) -> Awaitable[None]:
        return wait_for(callback, self.latch(callback), timeout)

    @property
    def queue(self) -> CallbackQueue:
        """Its callbacks: made for the first one, or where somebody asks in the middle of that."""
        if self._queue is not None:
            return self._queue
        with self.host.ledger.gate.lock:
            return self._publish_queue(CallbackQueue())

    def _publish_queue(self, made: CallbackQueue) -> CallbackQueue:
        """Under the lock: this one, unless there is one already."""
        queue: CallbackQueue = self.host.ledger.once(self, "_queue", made)
        # Behind that: ``end`` does it the other way round, and one sees the other.
        if self.is_ended and not queue.registered:
            queue.is_over = True
        return queue

    def _publish(self, outcome: Outcome) -> Outcome:
        with (ledger := self.host.ledger).gate.lock:
            outcome = ledger.once(self, "_outcome", outcome)
        return outcome
