"""One request, its response, and the callbacks registered meanwhile.

A pure state machine: adapters feed it five events (``start``, ``body``,
``complete``, ``disconnect``, ``end``), it keeps what became of the response
and hands out callbacks. It knows neither event loop nor runner.

Promise 1, never_before: it hands out no callback before ``end``.
Promise 2, once_or_accounted: it hands each callback out once, and registering
and ending are atomic against each other.
Promise 6, in_order: sequential callbacks are handed out first-in, first-out.
Promise 14, late: what is registered after the end is dispatched at once.
"""

import inspect
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from itertools import chain
from time import monotonic
from types import CoroutineType
from typing import Any, Protocol

from . import lifetime
from .callback import PENDING, RUNNING, SUCCEEDED, Callback, CallbackState, Lane, Task
from .delivery import Delivery
from .instrumentation import log
from .outcome import Outcome
from .record import Record
from .registry import Registry
from .waiting import Latch

KEY = "async_after.exchange"
"""Where the exchange hangs on an ASGI scope or a WSGI environ."""

current_exchange: ContextVar["Exchange | None"] = ContextVar("async_after.exchange", default=None)
current_callback: ContextVar["Callback[Any] | None"] = ContextVar(
    "async_after.callback", default=None
)


def running_callback() -> "Callback[Any] | None":
    """The callback that this is called in, if it has not ended."""
    callback = current_callback.get()
    return callback if callback is not None and not callback.done() else None


def key_holder(request: Any) -> dict[str, Any] | None:
    """The mapping that ``KEY`` stands in: an ASGI scope or a WSGI environ, or
    that of a Django or Starlette request."""
    for holder in (request, *(getattr(request, name, None) for name in _HOLDERS)):
        if isinstance(holder, dict):
            return holder
    return None


# Django's HttpRequest has META alone; its WSGI and ASGI requests have the others too.
_HOLDERS = ("scope", "environ", "META")


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


class NoActiveExchange(RuntimeError):
    """``after_response`` was called where no request is being answered."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"after_response({name}): no exchange is active here, so there is no response to run"
            " it after. In a request: wrap the application in"
            " async_after.asgi.AfterResponseMiddleware, or under WSGI in"
            " async_after.wsgi.AfterResponseMiddleware (Flask: app.wsgi_app = ...(app.wsgi_app));"
            " in Django put async_after.django.AfterResponseMiddleware first in MIDDLEWARE too:"
            " runserver and the test clients do not use asgi.py. In a plain thread: pass the"
            " request of a wrapped app, after_response.using(request=request). In a command,"
            " worker or shell: use 'with exchange_scope():'. A WebSocket opens no"
            " exchange: use exchange_scope() there too."
        )


class Host(Protocol):
    """Who runs an exchange's callbacks, seen from below.

    ``admit``, ``move``, ``queue`` and ``idle`` are called under the lock of the
    exchange: they only keep books. *Waiting* are the pending callbacks of
    exchanges that have ended, until they have a slot.
    """

    counts_waiting: bool
    """Whether its callbacks need slots at all."""
    is_closing: bool
    """The runner is being closed for its exchanges too."""
    closes_with_runner: bool
    """Whether that is so for this exchange's own host, of which the runner does not know."""

    def admit(self, exchange: "Exchange", first: bool, dormant: bool) -> None:
        """One more callback is pending; ``first``: the exchange had none unsettled,
        ``dormant``: nobody is to wait for it. (What is dormant comes on top.)"""

    def wake(self, exchange: "Exchange") -> None:
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

    def queue(self, count: int) -> None:
        """So many more callbacks are waiting; below 0: have been given a slot."""

    def idle(self, exchange: "Exchange", has_dormant: bool) -> None:
        """The exchange has no unsettled callback any more, but for dormant ones."""

    def registered(self, callback: Callback[Any]) -> None: ...

    def dispatch(self, exchange: "Exchange") -> None:
        """An ended exchange has callbacks to claim. Any thread may call."""

    def resume(self, exchange: "Exchange") -> None:
        """The same, in the thread of what has made one ready, behind the end."""

    def watch(self, exchange: "Exchange") -> None:
        """The exchange has ended: make those that wait for it ready when the
        response is acknowledged, or skip them."""

    def queued(self, exchange: "Exchange") -> None:
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


class Exchange(Record):
    """One request and its response (RFC 9110, 3.4)."""

    __slots__ = ("__weakref__", "_registry", "host", "parent", "request", "response")

    def __init__(
        self,
        host: Host,
        method: str | None = None,
        path: str | None = None,
        parent: "Exchange | None" = None,
    ) -> None:
        # All in one place, and no call more than needed: every request pays.
        self.host: Host = host
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
        self._registry: Registry | None = None
        self._began = monotonic()

    def end(self, error: BaseException | None = None) -> bool:
        """Control is about to go back to the server; are there callbacks to run?

        Only the first call counts: the others answer ``False``.

        It takes no lock where there is nothing to run. ``add`` publishes the
        registry first and then looks whether the exchange has ended; here it
        is the other way round: one of the two sees the other.
        """
        if self._is_ended:
            return False
        if error is not None or not self._is_complete:
            self._close(error)
        self._is_ended = True
        self.parent = None
        registry = self._registry
        if registry is not None:
            return self._end_with(registry)
        self._forget()
        return False

    def _end_with(self, registry: Registry) -> bool:
        if registry.asks:
            # Now: what the connection carries later belongs to other responses.
            self._seal_now()
        with registry.lock:
            unacknowledged = bool(registry.unready) and self._place_acknowledged(registry)
            has_callbacks = registry.awake > 0
            if has_callbacks:
                self._tell_over(registry)
            else:
                registry.claims.clear()
                registry.has_chain = False
                registry.is_over = True
            has_unsettled = registry.unsettled > 0
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

    def _place_acknowledged(self, registry: Registry) -> bool:
        """Those that wait for the delivery: to their places, if that has come, or
        whether there are any. Under the lock."""
        waiting = registry.unacknowledged()
        if not waiting or self._sealed(registry).delivery < Delivery.ACKNOWLEDGED:
            return bool(waiting)
        for callback in waiting:
            del registry.unready[callback]
            registry.append(callback, in_order=True)
        return False

    @property
    def outcome(self) -> Outcome | None:
        """What became of the response; ``None`` while the exchange is open."""
        return self.sealed if self._is_ended else None

    @property
    def sealed(self) -> Outcome:
        """The outcome, for callbacks: those exist after the end only."""
        registry = self._registry or self._make_registry()
        outcome = registry.outcome
        if outcome is None:
            with registry.lock:
                outcome = self._sealed(registry)
        return outcome

    def _sealed(self, registry: Registry) -> Outcome:
        """The same, under the lock."""
        if registry.outcome is None:
            registry.outcome = self._seal()
        return registry.outcome

    def _make_registry(self) -> Registry:
        with lifetime.making:
            registry = self._registry
            if registry is None:
                registry = self._registry = Registry()
            return registry

    # Registering and handing out.

    def add(self, callback: Callback[Any], *, dormant: bool = False) -> None:
        """Register a callback of this exchange; at once dispatched if it is late.

        ``dormant``: it waits for ``ready``, and nobody waits for it. One that
        waits for the delivery does so too, but is waited for.
        """
        replaced: Callback[Any] | None = None
        host, options = self.host, callback.options
        registry = self._registry or self._make_registry()
        with registry.lock:
            if options.key is not None:
                # First, as comparing keys is the user's code, and may raise.
                replaced = registry.keyed.get(options.key)
                registry.keyed[options.key] = callback
            host.admit(self, registry.unsettled == registry.dormant, dormant)
            registry.unsettled += 1
            registry.registered = callback._number = registry.registered + 1
            is_claimable, is_late, awaits_delivery = False, self._is_ended, False
            if options.asks:
                registry.asks = True
                awaits_delivery = options.when == "acknowledged"
            is_ready = not dormant and not awaits_delivery
            if is_ready:
                is_claimable = registry.append(callback)
            else:
                registry.unready[callback] = None
                callback._is_dormant = dormant
                registry.dormant += dormant
            if is_late:
                self._see_late(registry, callback, is_ready=is_ready)
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
        registry = self._registered()
        with registry.lock:
            if callback not in registry.unready or callback.done():
                return
            callback._outcome = outcome
            awaits_delivery = callback.options.when == "acknowledged" and outcome is None
            self._wake(registry, callback)
            is_late, is_claimable = self._is_ended, False
            if not awaits_delivery:
                del registry.unready[callback]
                is_claimable = registry.append(callback, in_order=not registry.is_over)
            if is_late:
                self._see_late(registry, callback, is_ready=not awaits_delivery)
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

    def _wake(self, registry: Registry, callback: Callback[Any]) -> None:
        if callback._is_dormant:
            callback._is_dormant = False
            registry.dormant -= 1
            self.host.wake(self)

    def _see_late(self, registry: Registry, callback: Callback[Any], *, is_ready: bool) -> None:
        """It was registered, or has become ready, behind the end. Under the lock."""
        if not registry.is_over:
            self._tell_over(registry)
        elif is_ready:
            self._wait(callback)

    def _tell_over(self, registry: Registry) -> None:
        """From now on its pending callbacks are waiting. Under the lock."""
        if registry.is_over:
            return
        registry.is_over = True
        if self.host.counts_waiting:
            waiting = 0
            for callback in chain(registry.sequential, registry.claims):
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
        registry = self._registered()
        with registry.lock:
            callback = callback or registry.head()
            if callback is not None and callback._is_waiting:
                callback._is_waiting = False
                self.host.queue(-1)

    def claim(self) -> list[Callback[Any] | None]:
        """What is to be started now, in the order of registration: concurrent
        callbacks, and ``None`` for the sequential ones, which the claimer
        takes with ``next`` until there is none. Empty before the end."""
        registry = self._registry
        if registry is None or not self._is_ended:
            return []
        with registry.lock:
            claims, registry.claims = registry.claims, []
            for claim in claims:
                if claim is not None and not claim.done():
                    registry.handed[claim] = None
            return claims

    def next(self, lanes: Sequence[Lane] | None = None) -> Callback[Any] | None:
        """The next sequential callback, now RUNNING; ``None`` if there is none,
        or if it belongs to none of these lanes. One that is not wanted needs no lane."""
        registry = self._registered()
        with registry.lock:
            callback = registry.head()
            if callback is None:
                return None
            if lanes is not None and callback.home not in lanes:
                when = callback.options.when
                if when == "always" or callback.options.wants(self._sealed(registry)):
                    return None
            registry.sequential.popleft()
            self._begin(callback)
            return callback

    def follow(
        self, callback: Callback[Any], result: Any, lanes: Sequence[Lane]
    ) -> Callback[Any] | None:
        """``callback`` has succeeded: settle it, and return the next one as ``next``
        does, both at once. ``None``, and nothing done, where there is more to it."""
        registry = self._registry
        if registry is None or not registry.sequential:
            return None
        with registry.lock:
            following = registry.head()
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
            registry.sequential.popleft()
            registry.unsettled -= 1
            callback._result = result
            callback._state = SUCCEEDED
            # Dropped when the lock is free again: a destructor may register.
            dropped = callback._task
            callback._task = callback._stop = None
            following._state = RUNNING
            was_waiting, following._is_waiting = following._is_waiting, False
            self.host.turn(callback, following, was_waiting)
        del dropped
        return following

    def has_next(self) -> bool:
        """Whether ``next`` may find one. It takes no lock: who does not see one that
        is registered now will see it in ``give_back``."""
        registry = self._registry
        return registry is not None and bool(registry.sequential)

    def give_back(self) -> bool:
        """Give up the claim to the sequential callbacks, if there is none left."""
        registry = self._registered()
        with registry.lock:
            if registry.head() is not None:
                return False
            registry.has_chain = False
            return True

    def begin(self, callback: Callback[Any]) -> bool:
        """Make a concurrent callback RUNNING; ``False`` if it was cancelled meanwhile."""
        registry = self._registered()
        with registry.lock:
            if callback._state is not PENDING:
                return False
            registry.handed.pop(callback, None)
            registry.unready.pop(callback, None)
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
        registry = self._registered()
        # What a callback drops is dropped when the lock is free again: a
        # destructor may register.
        dropped: Any
        with registry.lock:
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
            dropped = callback._task, returned
            callback._task = callback._stop = callback._returned = None
            latch = callback._latch
            key = callback.options.key
            if key is not None and registry.keyed.get(key) is callback:
                del registry.keyed[key]
            if before is PENDING:
                registry.handed.pop(callback, None)
                registry.unready.pop(callback, None)
                registry.bury()
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
        with registry.lock:
            registry.unsettled -= 1
            if callback._is_dormant:
                callback._is_dormant = False
                registry.dormant -= 1
            if registry.awake:
                return True
            has_dormant = bool(registry.dormant)
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
            latch, registry.latch = registry.latch, None
        del dropped
        if latch is not None:
            latch.open()
        return True

    def pending(self) -> list[Callback[Any]]:
        """Those that have not begun. For the runner at shutdown."""
        registry = self._registry
        if registry is None:
            return []
        with registry.lock:
            waiting = [*registry.sequential, *filter(None, registry.claims), *registry.handed]
            waiting += [callback for callback in registry.unready if not callback._is_dormant]
        return [callback for callback in waiting if callback.state is PENDING]

    def unacknowledged(self) -> list[Callback[Any]]:
        """Those that wait until the response is acknowledged, in order."""
        registry = self._registered()
        with registry.lock:
            return registry.unacknowledged()

    def only_waits(self) -> bool:
        """Whether all that is left waits for something else than the response."""
        registry = self._registered()
        with registry.lock:
            return registry.unsettled == len(registry.unready)

    def dormant(self) -> list[Callback[Any]]:
        """Those that nobody waits for, as what they wait for may never come."""
        registry = self._registry
        if registry is None:
            return []
        with registry.lock:
            return [callback for callback in registry.unready if callback._is_dormant]

    def newest(self) -> Callback[Any] | None:
        """The waiting one that was registered last."""
        registry = self._registered()
        with registry.lock:
            while registry.sequential and registry.sequential[-1].done():
                registry.sequential.pop()
            sequential = registry.sequential[-1] if registry.sequential else None
            if sequential is not None and not sequential._is_waiting:
                sequential = None
            concurrent = next((c for c in reversed(registry.handed) if c._is_waiting), None)
            if sequential is None or concurrent is None:
                return sequential or concurrent
            return max(sequential, concurrent, key=lambda callback: callback._number)

    def idle_latch(self) -> Latch:
        """Opens when the exchange has ended and no callback is left, but for dormant ones."""
        registry = self._registry or self._make_registry()
        with registry.lock:
            is_idle = self._is_ended and not registry.awake
            latch = registry.latch or Latch()
            if not is_idle:
                registry.latch = latch
        if is_idle:
            latch.open()
        return latch

    def _registered(self) -> Registry:
        registry = self._registry
        assert registry is not None, "an exchange that has callbacks"
        return registry

    def _forget(self) -> None:
        """Promise 15: an exchange that is through keeps outcome and counters only."""
        self.request = self.response = None

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


def _close_unstarted(returned: Any) -> None:
    """Nobody will await what a plain function has returned at its timeout."""
    if (
        isinstance(returned, CoroutineType)
        and inspect.getcoroutinestate(returned) == inspect.CORO_CREATED
    ):
        returned.close()


def task_of(callback: Callback[Any]) -> Task:
    """What a running callback runs. For the lanes."""
    task = callback._task
    assert task is not None, callback
    return task
