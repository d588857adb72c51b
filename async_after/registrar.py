"""``after_response`` and ``aafter_response``: registering on the current exchange.

Promise 3, outside_in: the exchange is found, never made here. Bad input is
refused here, before anything is registered.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from dataclasses import replace
from types import FunctionType
from typing import (
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    TypedDict,
    TypeVar,
    Unpack,
    get_args,
    overload,
)

from asgiref.sync import iscoroutinefunction

from . import conf
from .callback import Callback, Lane, Options, Predicate, Task, When, name_of
from .exchange import KEY, Exchange, NoActiveExchange, current_exchange
from .outcome import Outcome
from .scope import exchange_scope

P = ParamSpec("P")
R = TypeVar("R")


class CommonOptions(TypedDict, total=False):
    """The options of ``using()`` besides ``takes_outcome``."""

    when: When | Predicate
    timeout: float | None
    key: object
    name: str | None
    concurrent: bool
    lane: Lane | None
    request: Any


class _Registrar:
    __slots__ = ("_exchange", "_options")

    def __init__(self, options: Options, exchange: Exchange | None = None) -> None:
        self._options = options
        self._exchange = exchange

    def _register(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callback[Any]:
        is_async = self._check(func)
        exchange = self._exchange or current_exchange.get()
        if exchange is None:
            _refuse_outside(func, self._options)
            with exchange_scope() as scope:
                return self._add(scope, is_async, func, args, kwargs)
        return self._add(exchange, is_async, func, args, kwargs)

    async def _aregister(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Callback[Any]:
        is_async = self._check(func)
        exchange = self._exchange or current_exchange.get()
        if exchange is None:
            _refuse_outside(func, self._options)
            async with exchange_scope() as scope:
                return self._add(scope, is_async, func, args, kwargs)
        return self._add(exchange, is_async, func, args, kwargs)

    def _check(self, func: Callable[..., Any]) -> bool:
        is_async = _is_async(func)
        if self._options.lane is not None:
            _refuse_lane(func, is_async, self._options.lane)
        conf.check()
        return is_async

    def _add(
        self,
        exchange: Exchange,
        is_async: bool,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Callback[Any]:
        task = Task(func, args, kwargs, copy_context(), threading.get_ident())
        options = self._options
        name = options.name or name_of(func)
        callback: Callback[Any] = Callback(exchange, name, options, is_async, task)
        exchange.add(callback)
        return callback

    def _with(self, changes: dict[str, Any]) -> tuple[Options, Exchange | None]:
        options = {*_CHECKS, "request"}
        unknown = sorted(changes.keys() - options)
        if unknown:
            raise TypeError(
                f"using() has no option {', '.join(map(repr, unknown))}."
                f" The options are: {', '.join(sorted(options))}."
            )
        for option in changes.keys() & _CHECKS.keys():
            _CHECKS[option](option, changes[option])
        exchange = self._exchange
        if "request" in changes:
            request = changes.pop("request")
            exchange = None if request is None else _exchange_of(request)
        return replace(self._options, **changes), exchange


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
        ``TypeError`` for what cannot be called later, and ``NoActiveExchange``
        where no request is being answered.
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
        earlier callbacks nor holds later ones up. ``lane``: ``"loop"`` or
        ``"threads"``; the kind of callable decides by default. ``request``: a
        Django request, ASGI scope or WSGI environ whose exchange is meant,
        for code that lost the context. Raises ``TypeError`` or ``ValueError``.
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
        """As ``after_response``, from async code."""
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


after_response = AfterResponse(Options())
"""Run a callable after the current response has been sent."""
aafter_response = AsyncAfterResponse(Options())
"""The same, from async code."""


# What is refused.


def _is_async(func: Any) -> bool:
    """Whether calling it gives a coroutine. Raises ``TypeError`` for what
    cannot be called after the response."""
    if type(func) is FunctionType:
        flags = func.__code__.co_flags
        if not flags & _ANY_GENERATOR:
            if flags & inspect.CO_COROUTINE:
                return True
            return iscoroutinefunction(func)
    if inspect.iscoroutine(func):
        func.close()
        raise TypeError(
            f"after_response() got the coroutine object {func.__qualname__}(...). Pass the"
            f" function and its arguments: after_response({func.__name__}, ...)."
        )
    if not callable(func):
        raise TypeError(f"after_response() needs a callable, not {type(func).__name__}.")
    plain: Any = func
    while isinstance(plain, functools.partial):
        plain = plain.func
    called = plain if inspect.isroutine(plain) or isinstance(plain, type) else type(plain).__call__
    for kind, is_kind in (
        ("async generator", inspect.isasyncgenfunction),
        ("generator", inspect.isgeneratorfunction),
    ):
        if is_kind(plain) or is_kind(called):
            raise TypeError(
                f"after_response() cannot run the {kind} function {name_of(func)}: nothing would"
                " iterate it. Pass a function that does, or a coroutine function."
            )
    return iscoroutinefunction(plain) or iscoroutinefunction(called)


_ANY_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def _refuse_outside(func: Callable[..., Any], options: Options) -> None:
    if conf.setting("outside_request") == "raise":
        raise NoActiveExchange(options.name or name_of(func))


def _refuse_lane(func: Callable[..., Any], is_async: bool, lane: Lane) -> None:
    if lane == "loop" and not is_async:
        raise TypeError(
            f'lane="loop" cannot run the plain function {name_of(func)}: it would block the event'
            ' loop. Leave the lane out, or make it "async def".'
        )
    if lane == "threads" and is_async:
        raise TypeError(
            f'lane="threads" cannot run the coroutine function {name_of(func)}. Leave the lane'
            ' out, or make it a plain "def".'
        )


def _exchange_of(request: Any) -> Exchange:
    """The exchange of a Django or Starlette request, an ASGI scope or a WSGI environ."""
    candidates = (request, getattr(request, "scope", None), getattr(request, "environ", None))
    for mapping in candidates:
        if isinstance(mapping, dict):
            exchange = mapping.get(KEY)
            if isinstance(exchange, Exchange):
                return exchange
    raise NoActiveExchange(f"..., request={type(request).__name__}")


def _check_when(option: str, value: object) -> None:
    if callable(value):
        if iscoroutinefunction(value) or iscoroutinefunction(type(value).__call__):
            raise TypeError(
                "using(when=...) needs a plain predicate: an async one gives a coroutine,"
                " which is always true"
            )
    elif not isinstance(value, str):
        raise TypeError(f"using(when=...) takes a name or a predicate, not {value!r}")
    elif value not in get_args(When):
        names = ", ".join(map(repr, get_args(When)))
        raise ValueError(f"using(when={value!r}): it is one of {names}, or a predicate")


def _check_timeout(option: str, value: object) -> None:
    if value is not None and not conf.is_seconds(value):
        kind = ValueError if isinstance(value, (int, float)) else TypeError
        raise kind(f"using(timeout={value!r}): it is a number of seconds above 0, or None")


def _check_key(option: str, value: object) -> None:
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"using(key=...): a {type(value).__name__} is not hashable") from None


def _check_name(option: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"using(name={value!r}): it is a string, or None")


def _check_flag(option: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"using({option}={value!r}): it is True or False")


def _check_lane(option: str, value: object) -> None:
    if value is not None and value not in get_args(Lane):
        names = ", ".join(map(repr, get_args(Lane)))
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"using(lane={value!r}): it is one of {names}, or None")


_CHECKS: dict[str, Callable[[str, object], None]] = {
    "when": _check_when,
    "takes_outcome": _check_flag,
    "timeout": _check_timeout,
    "key": _check_key,
    "name": _check_name,
    "concurrent": _check_flag,
    "lane": _check_lane,
}
