"""What kind of callable is to be called after the response, if any."""

import functools
import inspect
from collections.abc import Callable
from types import CoroutineType, FunctionType
from typing import Any

from asgiref.sync import iscoroutinefunction

from ..exchange import Lane, name_of

_COROUTINE = inspect.CO_COROUTINE
_ANY_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


def inspected(func: Any, lane: Lane | None) -> tuple[bool, str]:
    """Whether calling it gives a coroutine, and its name. Raises ``TypeError`` for
    what cannot be called after the response, or not in that lane."""
    if type(func) is FunctionType:
        flags = func.__code__.co_flags
        if not flags & _ANY_GENERATOR:
            is_coroutine = bool(flags & _COROUTINE)
            if func.__dict__ and not is_coroutine:
                # What marks a plain function as one is an attribute.
                is_coroutine = _is(iscoroutinefunction, func)
            if lane is not None:
                _refuse_lane(func, is_coroutine, lane)
            if type(func.__module__) is str:
                # As name_of does, without a call: the client waits for this.
                return is_coroutine, f"{func.__module__ or '?'}.{func.__qualname__}"
            return is_coroutine, name_of(func)
    # By its type: ``isinstance`` may ask it for its ``__class__``, which may raise.
    if issubclass(type(func), CoroutineType):
        func.close()
        raise TypeError(
            f"after_response() got the coroutine object {func.__qualname__}(...). Pass the"
            f" function and its arguments: after_response({func.__name__}, ...)."
        )
    if not callable(func):
        hint = " Was the function called instead of passed?" if func is None else ""
        raise TypeError(f"after_response() needs a callable, not {type(func).__name__}.{hint}")
    plain: Any = func
    while issubclass(type(plain), functools.partial):
        plain = plain.func
    is_one = _is(inspect.isroutine, plain) or issubclass(type(plain), type)
    called = plain if is_one else _call_of(type(plain))
    for kind, is_kind in (
        ("async generator", inspect.isasyncgenfunction),
        ("generator", inspect.isgeneratorfunction),
    ):
        if _is(is_kind, plain) or _is(is_kind, called):
            raise TypeError(
                f"after_response() cannot run the {kind} function {name_of(func)}: nothing would"
                " iterate it. Pass a function that does, or a coroutine function."
            )
    is_coroutine = _is(iscoroutinefunction, plain) or _is(iscoroutinefunction, called)
    if lane is not None:
        _refuse_lane(func, is_coroutine, lane)
    return is_coroutine, name_of(func)


def _call_of(kind: Any) -> Any:
    try:
        return kind.__call__
    except Exception:  # its metaclass raises
        return None


def _is(question: Callable[[Any], bool], func: Any) -> bool:
    """A callable may answer with code of its own, which may raise: then it is a plain one."""
    try:
        return question(func)
    except Exception:
        return False


def _refuse_lane(func: Callable[..., Any], is_coroutine: bool, lane: Lane) -> None:
    if lane in ("loop", "background") and not is_coroutine:
        raise TypeError(
            f'lane="{lane}" cannot run the plain function {name_of(func)}: it would block the event'
            ' loop. Leave the lane out, or make it "async def".'
        )
    if lane == "threads" and is_coroutine:
        raise TypeError(
            f'lane="threads" cannot run the coroutine function {name_of(func)}. Leave the lane'
            ' out, or make it a plain "def".'
        )
