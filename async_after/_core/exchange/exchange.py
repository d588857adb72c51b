"""One request, its response, and the callbacks registered meanwhile.

A pure state machine: adapters feed it five events (``start``, ``body``,
``complete``, ``disconnect``, ``end``), it keeps what became of the response
(``record``) and hands out callbacks (``handing``). It knows neither event loop
nor runner.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context, ContextVar
from time import monotonic
from typing import Any

from ..delivery import Delivery
from ..runtime import Latch, log
from .callback import PENDING, Callback, CallbackState
from .host import Host
from .lifecycle import CallbackLifecycle
from .outcome import Outcome
from .queue import CallbackQueue

current_exchange: ContextVar["Exchange | None"] = ContextVar("async_after.exchange", default=None)
current_callback: ContextVar["Callback[Any] | None"] = ContextVar(
    "async_after.callback", default=None
)


def running_callback() -> "Callback[Any] | None":
    """The callback that this is called in, if it has not ended."""
    callback = current_callback.get()
    return callback if callback is not None and not callback.done() else None


@contextmanager
def inside(exchange: "Exchange | None") -> Iterator[None]:
    """Make this the current exchange; afterwards the one before is it again.

    Not with a token: the end may come in another copy of the context.
    """
    before = current_exchange.get()
    current_exchange.set(exchange)
    try:
        yield
    finally:
        current_exchange.set(before)


class Exchange(CallbackLifecycle):
    """One request and its response (RFC 9110, 3.4)."""

    __slots__ = ("__weakref__", "parent")

    def __init__(
        self,
        host: "Host[Exchange]",
        method: str | None = None,
        path: str | None = None,
        parent: "Exchange | None" = None,
    ) -> None:
        # All in one place, and no call more than needed: every request pays.
        self.host = host
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
        self._has_trailers = False
        self._is_last_offered = False
        self._is_complete = False
        self._is_disconnected = False
        self._is_ended = False
        self._first_byte_at = None
        self._last_at = None
        self._queue = None
        self._began = monotonic()

    def end(self, error: BaseException | None = None) -> bool:
        """Control is about to go back to the server; are there callbacks to run?

        Only the first call counts: the others answer ``False``.

        It takes no lock where there is nothing to run. ``add`` publishes the
        queue first and then looks whether the exchange has ended; here it
        is the other way round: one of the two sees the other.
        """
        if self._is_ended:
            return False
        if error is not None or not self._is_complete:
            self._close(error)
        self._is_ended = True
        self.parent = None
        queue = self._queue
        if queue is not None:
            return self._end_with(queue)
        self._forget()
        return False

    def _end_with(self, queue: CallbackQueue) -> bool:
        if queue.asks:
            # Now: what the connection carries later belongs to other responses.
            self._seal_now()
        with queue.lock:
            unacknowledged = bool(queue.unready) and self._place_acknowledged(queue)
            has_callbacks = queue.awake > 0
            if not has_callbacks:
                queue.claims.clear()
                queue.has_chain = False
                queue.is_over = True
            has_unsettled = queue.unsettled > 0
        if unacknowledged:
            self.host.watch(self)
        if not has_unsettled:
            self._forget()
        return has_callbacks

    def _seal_now(self) -> None:
        try:
            _ = self.sealed
        except Exception:
            # Headers that no server takes, say. Whatever it is, the callbacks are handed out.
            message = "the outcome of %s has to do without headers"
            log("exception", "internal_error", message, self.label(), of=self)
            self._headers = ()

    def _place_acknowledged(self, queue: CallbackQueue) -> bool:
        """Those that wait for the delivery: to their places, if that has come, or
        whether there are any. Under the lock."""
        waiting = queue.unacknowledged()
        if not waiting or self._sealed(queue).delivery < Delivery.ACKNOWLEDGED:
            return bool(waiting)
        for callback in waiting:
            del queue.unready[callback]
            queue.append(callback, in_order=True)
        return False

    @property
    def outcome(self) -> Outcome | None:
        """What became of the response; ``None`` while the exchange is open."""
        return self.sealed if self._is_ended else None

    def pending(self) -> list[Callback[Any]]:
        """Those that have not begun. For the runner at shutdown."""
        queue = self._queue
        if queue is None:
            return []
        with queue.lock:
            waiting = [*queue.sequential, *filter(None, queue.claims), *queue.handed]
            waiting += [callback for callback in queue.unready if not callback._is_dormant]
        return [callback for callback in waiting if callback.state is PENDING]

    def unacknowledged(self) -> list[Callback[Any]]:
        """Those that wait until the response is acknowledged, in order."""
        queue = self._registered()
        with queue.lock:
            return queue.unacknowledged()

    def only_waits(self) -> bool:
        """Whether all that is left waits for something else than the response."""
        queue = self._registered()
        with queue.lock:
            return queue.unsettled == len(queue.unready)

    def dormant(self) -> list[Callback[Any]]:
        """Those that nobody waits for, as what they wait for may never come."""
        queue = self._queue
        if queue is None:
            return []
        with queue.lock:
            return [callback for callback in queue.unready if callback._is_dormant]

    def newest(self) -> Callback[Any] | None:
        """The waiting one that was registered last."""
        queue = self._registered()
        with queue.lock:
            while queue.sequential and queue.sequential[-1].done():
                queue.sequential.pop()
            sequential = queue.sequential[-1] if queue.sequential else None
            if sequential is not None and not sequential._is_waiting:
                sequential = None
            concurrent = next((c for c in reversed(queue.handed) if c._is_waiting), None)
            if sequential is None or concurrent is None:
                return sequential or concurrent
            return max(sequential, concurrent, key=lambda callback: callback._number)

    def idle_latch(self) -> Latch:
        """Opens when the exchange has ended and no callback is left, but for dormant ones."""
        queue = self._queue or self._make_queue()
        with queue.lock:
            is_idle = self._is_ended and not queue.awake
            latch = queue.latch or Latch()
            if not is_idle:
                queue.latch = latch
        if is_idle:
            latch.open()
        return latch

    # What a callback asks of its exchange (``callback.Owner``).

    def cancel(self, callback: Callback[Any]) -> bool:
        if self.settle(callback, CallbackState.CANCELLED, expected=PENDING):
            return True
        self.stop(callback, CallbackState.CANCELLED)
        return False

    def drop(self, callback: Callback[Any], reason: str, *, if_pending: bool = False) -> bool:
        """Give it up; ``False`` if it has ended already (or, ``if_pending``, started)."""
        expected = PENDING if if_pending else None
        return self.settle(callback, CallbackState.DROPPED, reason=reason, expected=expected)

    def stop(
        self, callback: Callback[Any], state: CallbackState, reason: str | None = None
    ) -> None:
        """Ask a running callback to stop; it then ends in ``state``.

        The lane sets ``_stop`` and then looks at ``_stopping``, here it is the
        other way round: one of the two sees the other.
        """
        if callback.done() or callback._stopping is not None:
            return
        callback._reason = reason
        callback._stopping = state
        stop = callback._stop
        if stop is not None:
            stop.cancel(callback)

    def latch(self, callback: Callback[Any]) -> Latch:
        with self._registered().lock:
            if callback._latch is None:
                callback._latch = Latch()
            latch = callback._latch
            done = callback.done()
        if done:
            latch.open()
        return latch

    def refuse_deadlock(self, callback: Callback[Any]) -> None:
        """``RuntimeError`` where the waiting for ``callback`` can never end."""
        ancestor = current_exchange.get()
        while ancestor is not None:
            if ancestor is self and not self._is_ended:
                raise RuntimeError(
                    f"waiting for callback {callback.name} before its response is sent would never"
                    " end: it runs after the response. Wait in another callback with"
                    " concurrent=True, or await the function itself."
                )
            ancestor = ancestor.parent
        waiting = running_callback()
        if waiting is None:
            return
        both_in_line = not waiting.options.concurrent and not callback.options.concurrent
        if waiting is callback or (waiting._owner is self and both_in_line):
            raise RuntimeError(
                f"callback {waiting.name} waiting for callback {callback.name} of the same exchange"
                " would never end: sequential callbacks run one after the other. Register one of"
                " them with concurrent=True."
            )

    def lending(self) -> AbstractContextManager[None]:
        """While inside, the current callback, of whichever exchange, only waits."""
        waiting = running_callback()
        return nullcontext() if waiting is None else waiting._owner.lend(waiting)

    def lend(self, callback: Callback[Any]) -> AbstractContextManager[None]:
        return self.host.lending(callback)


def context_of(callback: Callback[Any]) -> Context:
    """Where a running callback runs. For the lanes."""
    context = callback._context
    assert context is not None, callback
    return context
