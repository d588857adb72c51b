"""What follows from a registration, once it is in the books.

Promise 14, late: what is registered after the end is dispatched at once.
"""

from collections.abc import Callable
from typing import Any

from .callback import Callback
from .settling import Settled, finish
from .state import PENDING, CallbackState


def follow_up(
    exchange: Settled,
    callback: Callback[Any],
    replaced: Callback[Any] | None,
    is_late: bool,
    is_claimable: bool,
) -> None:
    """What raises here is done once more, and so may be done twice."""
    host = exchange.host
    if host.ledger.hooks.registered:
        host.registered(callback)
    if replaced is not None:
        finish(exchange, replaced, CallbackState.CANCELLED, expected=PENDING)
    if callback._never:  # cancelled before it was in the books
        finish(exchange, callback, CallbackState.CANCELLED, expected=PENDING)
    if is_late:
        # Of a cancelled one, too: those behind it rely on its claim.
        tell_late(exchange, host.dispatch, callback, is_claimable)


def tell_late(
    exchange: Settled,
    dispatch: Callable[[Any], None],
    callback: Callback[Any],
    is_claimable: bool,
) -> None:
    """One more callback has come behind the end."""
    queue = exchange._queue
    assert queue is not None, "an exchange that has callbacks"
    if is_claimable:
        dispatch(exchange)
    elif callback not in queue.unready:
        exchange.host.queued(exchange)
    elif not callback._is_dormant:
        exchange.host.watch(exchange)
