"""``after_response`` and ``aafter_response``: registering on the current exchange.

Promise 3, outside_in: the exchange is found, never made here. Bad input is
refused here, before anything is registered.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, Unpack, overload

from asgiref.sync import sync_to_async

from .. import conf
from ..exchange import (
    KEY,
    Callback,
    Exchange,
    NoActiveExchange,
    Options,
    Outcome,
    current_exchange,
    key_holder,
)
from . import on_commit, test_hook
from .callables import inspected
from .exchange_scope import exchange_scope
from .options import CommonOptions, changed

P = ParamSpec("P")
R = TypeVar("R")


class _Registrar:
    __slots__ = ("_exchange", "_options")

    def __init__(self, options: Options, exchange: Exchange | None = None) -> None:
        self._options = options
        self._exchange = exchange

    def _register(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        exchange: Exchange | None = None,
        *,
        can_be_held: bool = True,
    ) -> Callback[Any]:
        """``exchange``: the one, if it has been found and has room."""
        # The client waits for this: no call more than needed.
        options = self._options
        is_coroutine, name = inspected(func, options.lane)
        name = options.name or name
        if not conf.is_known:
            conf.check()
        if exchange is None:
            if options.on_commit:
                on_commit.refuse_async(name)
            exchange = self._exchange or current_exchange.get()
            if exchange is None:
                _refuse_outside(name)
                with exchange_scope() as scope:
                    return self._register(func, args, kwargs, scope)
            if exchange.host.ledger.refuses:
                exchange.host.refuse_overflow(name)
        task = func, args, kwargs
        callback: Callback[Any] = Callback(exchange, name, options, is_coroutine, task)
        if test_hook.interceptors:
            test_hook.add(exchange, callback, can_be_held=can_be_held)
        elif options.on_commit:
            on_commit.add(exchange, callback, options.on_commit)
        else:
            exchange.add(callback)
        return callback

    async def _aregister(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callback[Any]:
        _, name = inspected(func, self._options.lane)
        name = self._options.name or name
        conf.check()
        exchange = self._exchange or current_exchange.get()
        if exchange is None:
            _refuse_outside(name)
            async with exchange_scope() as scope:
                return await self._aregister_on(scope, func, args, kwargs)
        exchange.host.refuse_overflow(name)
        await exchange.host.wait_for_room(exchange)
        return await self._aregister_on(exchange, func, args, kwargs)

    async def _aregister_on(
        self,
        exchange: Exchange,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Callback[Any]:
        if not self._options.on_commit:
            return self._register(func, args, kwargs, exchange)
        # Where the ORM has its connection.
        return await sync_to_async(self._register)(func, args, kwargs, exchange)

    def _with(self, changes: dict[str, Any]) -> tuple[Options, Exchange | None]:
        new = changed(self._options, changes)
        if "request" not in changes:
            return new, self._exchange
        request = changes["request"]
        return new, None if request is None else _exchange_of(request)


class AfterResponse(_Registrar):
    """Registers callbacks on the current exchange. See ``after_response``."""

    __slots__ = ()

    @overload
    def __call__(
        self, func: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Callback[R]: ...
    @overload
    def __call__(
        self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Callback[R]: ...
    def __call__(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Callback[Any]:
        """Run ``func(*args, **kwargs)`` after the response; plain or ``async def``.

        Any thread may call it. Also a decorator without arguments. Raises
        ``TypeError`` for what cannot be called later, ``NoActiveExchange``
        where no request is being answered, and ``RunnerFull`` if the runner is
        full and its ``overflow`` is ``"raise"``.
        """
        return self._register(func, args, kwargs)

    @overload
    def using(
        self, *, takes_outcome: Literal[True], **options: Unpack[CommonOptions]
    ) -> "AfterResponseWithOutcome": ...
    @overload
    def using(
        self, *, takes_outcome: Literal[False] = False, **options: Unpack[CommonOptions]
    ) -> "AfterResponse": ...
    def using(self, **options: Any) -> "AfterResponse | AfterResponseWithOutcome":
        """A registrar with other options; those not named stay as they are.

        ``when``: ``"always"``, ``"success"`` (SENT, status below 400, no
        exception), ``"disconnect"``, ``"error"`` (all the rest), or a
        predicate of the ``Outcome``, asked where the callback would run.
        ``takes_outcome``: the ``Outcome`` comes first among the arguments.
        ``timeout``: seconds it may run. ``key``: the last registration of a
        key replaces an earlier one that has not started. ``name``: for logs,
        instead of the callable's own. ``concurrent``: it neither waits for
        earlier callbacks nor holds later ones up. ``lane``: ``"loop"``,
        ``"threads"`` or, for coroutine functions that may block,
        ``"background"``, an event loop in a thread of its own; the kind of
        callable decides by default. ``request``: a
        Django request, ASGI scope or WSGI environ whose exchange is meant,
        for code that lost the context. ``on_commit``: not before the commit of
        the transaction around the registration, of the database ``"default"``
        or the one with this alias; SKIPPED if it is rolled back.
        ``delivery_timeout``: seconds (by default 5) that
        ``when="acknowledged"`` waits until the client's kernel has acknowledged
        the whole response; SKIPPED if it has not by then. Raises ``TypeError``
        or ``ValueError``.
        """
        new, exchange = self._with(options)
        kind = AfterResponseWithOutcome if new.takes_outcome else AfterResponse
        return kind(new, exchange)


class AfterResponseWithOutcome(_Registrar):
    """``after_response.using(takes_outcome=True)``."""

    __slots__ = ()

    @overload
    def __call__(
        self,
        func: Callable[Concatenate[Outcome, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Callback[R]: ...
    @overload
    def __call__(
        self, func: Callable[Concatenate[Outcome, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Callback[R]: ...
    def __call__(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Callback[Any]:
        """As ``AfterResponse``, for ``func(outcome, *args, **kwargs)``."""
        return self._register(func, args, kwargs)

    def on(self, exchange: Exchange, func: Callable[[Outcome], Any]) -> Callback[Any]:
        """Register on this exchange. For adapters."""
        # The app's set-up registers it: tests that capture what a view does let it run.
        return self._register(func, (), {}, exchange, can_be_held=False)


class AsyncAfterResponse(_Registrar):
    """Registers from async code. See ``aafter_response``."""

    __slots__ = ()

    @overload
    async def __call__(
        self, func: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Callback[R]: ...
    @overload
    async def __call__(
        self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Callback[R]: ...
    async def __call__(
        self, func: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Callback[Any]:
        """As ``after_response``, from async code, and waits for room while the
        runner is full: except inside a callback, and at most until nothing has
        moved for 5 seconds."""
        return await self._aregister(func, args, kwargs)

    @overload
    def using(
        self, *, takes_outcome: Literal[True], **options: Unpack[CommonOptions]
    ) -> "AsyncAfterResponseWithOutcome": ...
    @overload
    def using(
        self, *, takes_outcome: Literal[False] = False, **options: Unpack[CommonOptions]
    ) -> "AsyncAfterResponse": ...
    def using(self, **options: Any) -> "AsyncAfterResponse | AsyncAfterResponseWithOutcome":
        """As ``after_response.using``."""
        new, exchange = self._with(options)
        kind = AsyncAfterResponseWithOutcome if new.takes_outcome else AsyncAfterResponse
        return kind(new, exchange)


class AsyncAfterResponseWithOutcome(_Registrar):
    """``aafter_response.using(takes_outcome=True)``."""

    __slots__ = ()

    @overload
    async def __call__(
        self,
        func: Callable[Concatenate[Outcome, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Callback[R]: ...
    @overload
    async def __call__(
        self, func: Callable[Concatenate[Outcome, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Callback[R]: ...
    async def __call__(
        self, func: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Callback[Any]:
        """As ``AsyncAfterResponse``, for ``func(outcome, *args, **kwargs)``."""
        return await self._aregister(func, args, kwargs)


after_response: AfterResponse = AfterResponse(Options())
"""Run a callable after the current response has been sent."""
aafter_response: AsyncAfterResponse = AsyncAfterResponse(Options())
"""The same, from async code."""


def _refuse_outside(name: str) -> None:
    if conf.setting("outside_request") == "raise":
        raise NoActiveExchange(name)


def _exchange_of(request: Any) -> Exchange:
    """The exchange of a Django or Starlette request, an ASGI scope or a WSGI environ."""
    holder = key_holder(request)
    if holder is None:
        raise TypeError(
            "using(request=...): must be a Django or Starlette request, an ASGI scope or a WSGI"
            f" environ, not {type(request).__name__}"
        )
    exchange = holder.get(KEY)
    if isinstance(exchange, Exchange):
        return exchange
    raise NoActiveExchange(f"..., request={type(request).__name__}")
