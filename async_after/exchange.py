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

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Protocol

from .callback import Callback, CallbackState, Task
from .outcome import Completion, Outcome
from .waiting import Latch

KEY = "async_after.exchange"
"""Where the exchange hangs on an ASGI scope or a WSGI environ."""

current_exchange: ContextVar["Exchange | None"] = ContextVar("async_after.exchange", default=None)
current_callback: ContextVar["Callback[Any] | None"] = ContextVar(
    "async_after.callback", default=None
)

# RFC 9110, 6.4.1 and 8.6: these have no body, whatever Content-Length says.
_BODILESS = frozenset({204, 304})


def key_holder(request: Any) -> dict[str, Any] | None:
    """The mapping that ``KEY`` stands in: an ASGI scope or a WSGI environ, or
    that of a Django or Starlette request."""
    for holder in (request, *(getattr(request, name, None) for name in _HOLDERS)):
        if isinstance(holder, dict):
            return holder
    return None


# Django's HttpRequest has META alone; its WSGI and ASGI requests have the others too.
_HOLDERS = ("scope", "environ", "META")


class NoActiveExchange(RuntimeError):
    """``after_response`` was called where no request is being answered."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"after_response({name}): no exchange is active here, so there is no response to run"
            " it after. In a request: wrap the ASGI application in"
            " async_after.asgi.AfterResponseMiddleware, or put"
            " async_after.django.AfterResponseMiddleware first in MIDDLEWARE. In a plain thread:"
            " pass the request, after_response.using(request=request). In a command, worker or"
            " shell: use 'with exchange_scope():'. A WebSocket opens no exchange: use"
            " exchange_scope() there too."
        )


class Host(Protocol):
    """Who runs an exchange's callbacks, seen from below."""

    def admit(self, exchange: "Exchange", first: bool) -> None:
        """Count one more callback; ``first``: the exchange had none unsettled.

        Called under the exchange's lock, like ``idle``: it only keeps books.
        """

    def registered(self, callback: Callback[Any]) -> None: ...

    def dispatch(self, exchange: "Exchange") -> None:
        """An ended exchange has callbacks to claim. Any thread may call."""

    def settled(self, callback: Callback[Any]) -> None: ...

    def idle(self, exchange: "Exchange") -> None:
        """The exchange has no unsettled callback any more."""

    def lending(self, callback: Callback[Any]) -> AbstractContextManager[None]:
        """While inside, this running callback only waits for another one."""


class _Registry:
    """The callbacks of one exchange. Made for the first one, so that an
    exchange without callbacks has no list (promise 12)."""

    __slots__ = ("claims", "dead", "has_chain", "keyed", "sequential", "unsettled")

    def __init__(self) -> None:
        self.sequential: deque[Callback[Any]] = deque()
        self.claims: list[Callback[Any] | None] = []
        """What can be started independently: each concurrent callback, and
        ``None`` once for the chain of the sequential ones."""
        self.has_chain = False
        """The chain stands in ``claims``, or somebody is taking it."""
        self.keyed: dict[object, Callback[Any]] = {}
        self.unsettled = 0
        self.dead = 0
        """At most so many ended callbacks still stand in the two lists."""

    def append(self, callback: Callback[Any]) -> bool:
        """Whether there is something new to claim."""
        if callback.options.concurrent:
            self.claims.append(callback)
            return True
        self.sequential.append(callback)
        if self.has_chain:
            return False
        self.has_chain = True
        self.claims.append(None)
        return True

    def bury(self) -> None:
        """A waiting callback was cancelled or replaced: keep the lists in
        proportion to what they hold."""
        self.dead += 1
        if self.dead > 32 and self.dead > self.unsettled:
            self.sequential = deque(c for c in self.sequential if not c.done())
            self.claims = [c for c in self.claims if c is None or not c.done()]
            self.dead = 0


class Exchange:
    """One request and its response (RFC 9110, 3.4)."""

    # Class attributes are the state of a new exchange: what never happens in
    # a request costs it nothing.
    status: int | None = None
    error: BaseException | None = None
    request: Any = None
    response: Any = None
    body_bytes: int | None = 0
    _headers: Sequence[tuple[bytes, bytes]] = ()
    _has_trailers = False
    _content_length: int | None = None
    _is_length_known = False
    _first_byte_at: float | None = None
    _last_at: float | None = None
    _is_last_offered = False
    _is_complete = False
    _is_disconnected = False
    _is_ended = False
    _registry: _Registry | None = None
    _outcome: Outcome | None = None
    _latch: Latch | None = None

    def __init__(
        self,
        host: Host,
        method: str | None = None,
        path: str | None = None,
        parent: "Exchange | None" = None,
    ) -> None:
        self.host = host
        self.method = method
        self.path = path
        self.parent = parent
        """The exchange in whose context this one began, while it is open."""
        self._lock = threading.Lock()
        self._wall_time = time.time()
        self._began = time.monotonic()

    # The five events.

    def start(
        self, status: int, headers: Sequence[tuple[bytes, bytes]], *, trailers: bool = False
    ) -> None:
        """The server accepted the response start."""
        self.status = status
        self._headers = headers
        self._has_trailers = trailers
        self._last_at = time.monotonic()

    def offer(self, size: int, *, last: bool) -> bool:
        """A body message is about to be passed to the server: does it complete the response?

        From here on a disconnect does not count: servers report one as soon
        as they have the last message.
        """
        if last:
            completes = not self._has_trailers
        else:
            length = self._announced_length()
            completes = length is not None and (self.body_bytes or 0) + size >= length
        if completes:
            self._is_last_offered = True
        return completes

    def offer_last(self) -> None:
        """The last message of the response, no body, is about to be passed to the server."""
        self._is_last_offered = True

    def body(self, size: int | None, *, completes: bool) -> None:
        """The server accepted a body message of ``size`` bytes (``None``: unknown)."""
        self._last_at = now = time.monotonic()
        if self._first_byte_at is None:
            self._first_byte_at = now
        if size is None or self.body_bytes is None:
            self.body_bytes = None
        else:
            self.body_bytes += size
        if completes:
            self._is_last_offered = self._is_complete = True

    def complete(self) -> None:
        """The server accepted the last message of the response, and it was no body."""
        self._last_at = time.monotonic()
        self._is_last_offered = self._is_complete = True

    def disconnect(self) -> None:
        """The server reported the client gone."""
        if not self._is_last_offered:
            self._is_disconnected = True

    def refuse(self) -> None:
        """The server refused a message because the client is gone (ASGI, HTTP
        "Disconnected client": ``send()`` raises ``OSError``)."""
        self._is_disconnected = True

    def end(self, error: BaseException | None = None) -> bool:
        """Control is about to go back to the server; are there callbacks to run?

        Only the first call counts: the others answer ``False``.
        """
        with self._lock:
            if self._is_ended:
                return False
            if error is not None:
                self.error = error
            if not self._is_complete and not self._is_disconnected and self._has_all_bytes():
                self._is_complete = True
            self._ended_at = time.monotonic()
            self._is_ended = True
            self.parent = None
            registry = self._registry
            if registry is None or not registry.unsettled:
                self._forget()
                self._registry = None
                return False
            self._outcome = self._seal()
            return True

    @property
    def has_trailers(self) -> bool:
        """Whether the response start has announced trailers."""
        return self._has_trailers

    @property
    def is_complete(self) -> bool:
        """Whether the server has accepted the last message."""
        return self._is_complete

    @property
    def is_ended(self) -> bool:
        return self._is_ended

    # Content-Length.

    def _announced_length(self) -> int | None:
        """Content-Length, where reaching it completes the response (promise 1).

        granian sends ``http.disconnect`` there and Django then stops: the
        last message never comes though the client has everything.
        """
        if not self._is_length_known:
            self._is_length_known = True
            if not self._has_trailers and not self._is_bodiless():
                for name, value in self._headers:
                    if name.lower() == b"content-length" and value.strip().isdigit():
                        self._content_length = int(value)
        return self._content_length

    def _is_bodiless(self) -> bool:
        return self.method == "HEAD" or self.status in _BODILESS

    def _has_all_bytes(self) -> bool:
        if self.status is None or self.body_bytes is None:
            return False
        length = self._announced_length()
        return length is not None and self.body_bytes >= length

    # The outcome.

    @property
    def outcome(self) -> Outcome | None:
        """What became of the response; ``None`` while the exchange is open."""
        with self._lock:
            if self._outcome is None and self._is_ended:
                self._outcome = self._seal()
            return self._outcome

    @property
    def sealed(self) -> Outcome:
        """The outcome, for callbacks: those exist after the end only."""
        outcome = self._outcome or self.outcome
        assert outcome is not None, "a callback before the end of its exchange"
        return outcome

    def _seal(self) -> Outcome:
        if self._is_complete:
            completion = Completion.SENT
        elif self._is_disconnected:
            completion = Completion.DISCONNECTED
        else:
            completion = Completion.FAILED
        first, last = self._first_byte_at, self._last_at
        return Outcome(
            completion=completion,
            status=self.status,
            headers=tuple(
                (name.decode("latin-1").lower(), value.decode("latin-1"))
                for name, value in self._headers
            ),
            body_bytes=0 if self._is_bodiless() else self.body_bytes,
            error=self.error,
            method=self.method,
            path=self.path,
            started_at=datetime.fromtimestamp(self._wall_time, UTC),
            time_to_first_byte=None if first is None else first - self._began,
            duration=(self._ended_at if last is None else last) - self._began,
        )

    # Registering and handing out.

    def add(self, callback: Callback[Any]) -> None:
        """Register a callback of this exchange; at once dispatched if it is late."""
        replaced: Callback[Any] | None = None
        with self._lock:
            registry = self._registry
            if registry is None:
                registry = self._registry = _Registry()
            self.host.admit(self, not registry.unsettled)
            registry.unsettled += 1
            key = callback.options.key
            if key is not None:
                replaced = registry.keyed.get(key)
                registry.keyed[key] = callback
            late = registry.append(callback) and self._is_ended
        self.host.registered(callback)
        if replaced is not None:
            self.settle(replaced, CallbackState.CANCELLED, expected=CallbackState.PENDING)
        if late:
            self.host.dispatch(self)

    def claim(self) -> list[Callback[Any] | None]:
        """What is to be started now, in the order of registration: concurrent
        callbacks, and ``None`` for the sequential ones, which the claimer
        takes with ``next`` until there is none. Empty before the end."""
        with self._lock:
            registry = self._registry
            if registry is None or not self._is_ended:
                return []
            claims, registry.claims = registry.claims, []
            return claims

    def next(self) -> Callback[Any] | None:
        """The next sequential callback, now RUNNING; ``None`` gives the claim back."""
        with self._lock:
            registry = self._registry
            assert registry is not None
            while registry.sequential:
                callback = registry.sequential.popleft()
                if callback._state is CallbackState.PENDING:
                    callback._state = CallbackState.RUNNING
                    return callback
            registry.has_chain = False
            return None

    def begin(self, callback: Callback[Any]) -> bool:
        """Make a concurrent callback RUNNING; ``False`` if it was cancelled meanwhile."""
        with self._lock:
            if callback._state is not CallbackState.PENDING:
                return False
            callback._state = CallbackState.RUNNING
            return True

    def settle(
        self,
        callback: Callback[Any],
        state: CallbackState,
        result: Any = None,
        exception: BaseException | None = None,
        *,
        expected: CallbackState | None = None,
    ) -> bool:
        """Give a callback its final state; ``False`` if it has one already (or
        is not in the ``expected`` one)."""
        with self._lock:
            if callback.done() or (expected is not None and callback._state is not expected):
                return False
            was_pending = callback._state is CallbackState.PENDING
            callback._result = result
            callback._exception = exception
            callback._state = state
            callback._task = callback._stop = callback._returned = None
            latch = callback._latch
            registry = self._registry
            assert registry is not None
            key = callback.options.key
            if key is not None and registry.keyed.get(key) is callback:
                del registry.keyed[key]
            if was_pending:
                registry.bury()
        self.host.settled(callback)
        if latch is not None:
            latch.open()
        # Only now does it stop to count as unsettled: whoever sees the
        # exchange idle finds every callback logged and accounted for.
        latch = None
        with self._lock:
            registry.unsettled -= 1
            if not registry.unsettled:
                self.host.idle(self)
                if self._is_ended:
                    self._forget()
                    latch, self._latch = self._latch, None
        if latch is not None:
            latch.open()
        return True

    def pending(self) -> list[Callback[Any]]:
        """Those not yet handed out. For the runner at shutdown."""
        with self._lock:
            registry = self._registry
            if registry is None:
                return []
            waiting = [*registry.sequential, *filter(None, registry.claims)]
        return [callback for callback in waiting if callback.state is CallbackState.PENDING]

    def idle_latch(self) -> Latch:
        """Opens when the exchange has ended and no callback is left."""
        with self._lock:
            latch = self._latch
            if latch is None:
                latch = self._latch = Latch()
            registry = self._registry
            idle = self._is_ended and (registry is None or not registry.unsettled)
        if idle:
            latch.open()
        return latch

    def _forget(self) -> None:
        """Promise 15: an exchange that is through keeps outcome and counters only."""
        self.request = self.response = None
        registry = self._registry
        if registry is not None:
            registry.keyed.clear()

    # What a callback asks of its exchange (``callback.Owner``).

    def label(self) -> str:
        """Method, path and status: all that a log line says of an exchange."""
        if self.method is None and self.path is None:
            return "exchange_scope()" if self.status is None else f"exchange {self.status}"
        status = "no response" if self.status is None else self.status
        return f"{self.method} {self.path} ({status})"

    def cancel(self, callback: Callback[Any]) -> bool:
        if self.settle(callback, CallbackState.CANCELLED, expected=CallbackState.PENDING):
            return True
        self.stop(callback, CallbackState.CANCELLED)
        return False

    def stop(self, callback: Callback[Any], state: CallbackState) -> None:
        """Ask a running callback to stop; it then ends in ``state``.

        The lane sets ``_stop`` and then looks at ``_stopping``, here it is the
        other way round: one of the two sees the other.
        """
        if callback.done() or callback._stopping is not None:
            return
        callback._stopping = state
        stop = callback._stop
        if stop is not None:
            stop()

    def latch(self, callback: Callback[Any]) -> Latch:
        with self._lock:
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
        waiting = current_callback.get()
        if waiting is None or waiting._state is not CallbackState.RUNNING:
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
        waiting = current_callback.get()
        if waiting is None or waiting._state is not CallbackState.RUNNING:
            return nullcontext()
        return waiting._owner.lend(waiting)

    def lend(self, callback: Callback[Any]) -> AbstractContextManager[None]:
        return self.host.lending(callback)


def task_of(callback: Callback[Any]) -> Task:
    """What a running callback runs. For the lanes."""
    task = callback._task
    assert task is not None, callback
    return task
