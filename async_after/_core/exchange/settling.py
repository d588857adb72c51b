"""How a callback of an exchange ends, and what follows from it.

Promise 2, once_or_accounted: each ends once, and the books are changed in one step.
Promise 15, discreet: what is through keeps outcome and counters only.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from ..runtime import Latch, check_stack, is_unstarted, monotonic
from .callback import Callback
from .host import Host
from .ledger import Ledger
from .options import Lane
from .queue import CallbackQueue
from .state import PENDING, RUNNING, SUCCEEDED, CallbackState


class Turn(Protocol):
    """Who runs the sequential callbacks one after another, or one concurrent one."""

    starter: Any
    """``is_shut``: nothing begins any more."""
    is_single: bool
    is_over: bool
    """There was none left: the claim is given back, and the slot."""

    following: Callback[Any] | None
    """The next one of the lanes asked for, RUNNING, when one has ended."""

    def give_back(self) -> None:
        """In a change: its slot, if nobody waits for one."""

    def advance(self) -> None:
        """Go on, or give the slot back."""


class Settled(Protocol):
    """The exchange, as far as the ends of its callbacks concern it."""

    host: Host[Any]
    request: Any
    response: Any
    _queue: CallbackQueue | None

    @property
    def is_ended(self) -> bool: ...


def finish(
    exchange: Settled,
    callback: Callback[Any],
    state: CallbackState,
    result: Any = None,
    exception: BaseException | None = None,
    reason: str | None = None,
    expected: CallbackState | None = None,
    turn: Turn | None = None,
    lanes: Sequence[Lane] = (),
    now: float | None = None,
) -> bool:
    """Give a callback its final state; ``False`` if it has one, or not the ``expected`` one."""
    ledger = exchange.host.ledger
    gate, now = ledger.gate, now or monotonic()
    dropped = heard = tell = following = None
    end = state, result, exception, reason, now
    try:
        gate.acquire()
        if gate.is_busy:
            return _finish_later(exchange, gate.asked, callback, turn, (*end[:4], expected))
        gate.is_busy = True  # before the look: who has just come back in may have ended it
        try:
            is_first = callback._state in (_OPEN if expected is None else (expected,))
            if is_first:
                dropped, heard = _settle(exchange, ledger, callback, end)
                if turn is not None:
                    following = _take_turn(exchange, ledger, turn, lanes, now)
        except Exception:  # there is no stack left, say: the chain goes on by ``advance``
            if not callback.done():
                raise
        finally:
            gate.is_busy = False
    finally:
        gate.release()
    if turn is not None:
        turn.following = following
    del dropped
    try:
        if heard is not None:
            (tell := partial(_tell, exchange, callback, *heard))()
            tell = None
        if gate.asked:
            gate.catch_up()
        if following is not None and ledger.hooks.started:
            exchange.host.started(following)
    except Exception:  # it has ended all the same
        gate.asked.extend([] if tell is None else [tell])
        gate.hurry()
    return is_first


def cancel(exchange: Settled, callback: Callback[Any]) -> bool:
    """End it, if it has not begun; else ask it to stop, and answer ``False``."""
    check_stack()
    if not callback._number:
        # It is put into the books behind a change that was under way; whoever does that, another
        # thread or this one, looks at the mark. If it was just done it is ended below.
        with exchange.host.ledger.gate.lock:
            callback._never = True
            if not callback._number:
                return True
    if finish(exchange, callback, CallbackState.CANCELLED, expected=PENDING):
        return True
    callback._ask_to_stop(CallbackState.CANCELLED)
    return False


_OPEN = RUNNING, PENDING
End = tuple[CallbackState, Any, BaseException | None, str | None, float]
"""State, result, exception, reason, and when."""


def _settle(
    exchange: Settled, ledger: Ledger, callback: Callback[Any], end: End
) -> tuple[object, tuple[Any, Latch | None] | None]:
    """In a change. What is to be dropped behind it; and what is to be said, if somebody hears of
    the end (if nobody does, it leaves its exchange)."""
    queue: Any = exchange._queue
    state, result, exception, reason, now = end
    dropped: Any = callback._task, callback._context
    if state is SUCCEEDED and not callback._is_watched and not ledger.is_heard:
        if queue.unsettled - 1 == queue.dormant:
            dropped = dropped, exchange.request, exchange.response, queue.keyed
            _idle(exchange, queue, ledger, queue.dormant > 0)
        # From here on nothing can raise: all is done, or nothing.
        ledger._running.pop(callback, None)
        callback._result, callback._ended = result, now
        callback._task = callback._stop = callback._context = None
        callback._state = state
        ledger.ended[state._value_] += 1
        queue.unsettled -= 1
        if callback._latch is not None:  # who has come back in meanwhile looks for its end
            ledger.gate.asked.append(callback._latch.open)
        return dropped, None
    returned, place = callback._returned, callback._place
    if callback._state is PENDING:
        queue.take_out(callback)
    # The same.
    ledger._running.pop(callback, None)
    callback._result, callback._exception, callback._ended = result, exception, now
    if reason is not None:
        callback._reason = reason
    callback._task = callback._stop = callback._returned = callback._place = None
    callback._state = state
    latch = callback._latch  # behind that: who has it made looks whether it is done
    if place is not None and place.callback is callback:
        place.callback = None
    ledger.ended[state._value_] += 1
    if callback._is_waiting:
        callback._is_waiting = False
        ledger.waiting -= 1
        ledger.begun += 1
        if ledger._doomed and state is CallbackState.DROPPED:
            ledger._doomed -= 1
    return (dropped, returned), (returned, latch)


def _take_turn(
    exchange: Settled, ledger: Ledger, turn: Turn, lanes: Sequence[Lane], now: float
) -> Callback[Any] | None:
    """In a change: the one that goes on in the place of the one that ends."""
    queue = exchange._queue
    assert queue is not None, "an exchange that has callbacks"
    if turn.is_single:
        turn.give_back()
        return None
    if turn.starter.is_shut:
        lanes = ()
    sequential = queue.sequential
    while sequential:
        callback = sequential[0]
        if callback._state is PENDING:
            if callback.home not in lanes or callback.options.when != "always":
                return None
            # As ``Ledger.begins`` does, without a call.
            callback._state = RUNNING
            if callback._never:
                callback._state = PENDING
            else:
                ledger._running[callback] = callback._began = now
                if callback._is_waiting:
                    callback._is_waiting = False
                    ledger.waiting -= 1
                    ledger.begun += 1
        sequential.popleft()
        if callback._state is RUNNING:
            return callback
    turn.give_back()
    queue.has_chain = False
    return None


def _finish_later(
    exchange: Settled,
    asked: deque[Callable[[], object]],
    callback: Callback[Any],
    turn: Turn | None,
    end: tuple[Any, ...],
) -> bool:
    """In the middle of another change: behind it. A pending one never begins until then."""
    expected = end[-1]
    if callback._state not in (_OPEN if expected is None else (expected,)):
        return False
    if expected is PENDING:
        callback._never = True
    asked.append(partial(finish, exchange, callback, *end))
    if turn is not None:
        turn.is_over, turn.following = True, None  # for who runs it: there is no next one
        asked.append(turn.advance)
    return True


def _tell(exchange: Settled, callback: Callback[Any], returned: Any, latch: Latch | None) -> None:
    """It leaves its exchange when all is said. What raises is done once more."""
    asked = exchange.host.ledger.gate.asked
    try:
        _say(exchange, callback, returned, latch)
    except Exception:
        asked.append(partial(_say, exchange, callback, returned, latch))
    finally:
        asked.append(partial(_leave, exchange, callback, latch))


def _say(exchange: Settled, callback: Callback[Any], returned: Any, latch: Latch | None) -> None:
    """Tell all who hear of its end: the log, instruments, those that wait for it."""
    if returned is not None and is_unstarted(returned):
        callback._discard(returned)
    exchange.host.settled(callback)
    # All is said of it, inside of it.
    callback._context = None
    if latch is not None:
        latch.open()


def _leave(exchange: Settled, callback: Callback[Any], latch: Latch | None) -> None:
    """It stops to count as unsettled, only now: whoever sees the exchange idle finds every
    callback logged and accounted for. By ``Gate.catch_up`` alone."""
    queue, ledger = exchange._queue, exchange.host.ledger
    assert queue is not None, "an exchange that has callbacks"
    dropped: Any = None
    gate = ledger.gate
    try:
        gate.acquire()
        if gate.is_busy:
            gate.asked.append(partial(_leave, exchange, callback, latch))
            return
        gate.is_busy = True
        try:
            if latch is not None:  # unless something has raised, it is open
                gate.asked.append(latch.open)
            dormant = queue.dormant - callback._is_dormant
            if queue.unsettled - 1 == dormant:
                dropped = exchange.request, exchange.response, queue.keyed
                _idle(exchange, queue, ledger, dormant > 0)
            # Behind all calls, any of which may raise: then this comes again.
            callback._is_dormant = False
            queue.unsettled, queue.dormant = queue.unsettled - 1, dormant
        finally:
            gate.is_busy = False
    finally:
        gate.release()
    del dropped


def _idle(exchange: Settled, queue: CallbackQueue, ledger: Ledger, has_dormant: bool) -> None:
    """In a change: nobody waits for it any more, but for dormant ones. What is to be opened then
    is asked for."""
    if queue.promised:
        ledger.keep(queue)
    if exchange.is_ended and not has_dormant:
        # First: whoever sees it idle finds that it keeps nothing.
        queue.keyed = {}
        exchange.request = exchange.response = None
    ledger.idle(exchange, has_dormant)
    if exchange.is_ended and queue.latch is not None:
        ledger.gate.asked.append(queue.latch.open)
        queue.latch = None
