"""The options of ``using()``, checked where they enter."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypedDict, get_args

from asgiref.sync import iscoroutinefunction

from .. import conf
from ..exchange import Lane, Options, Outcome, When


class CommonOptions(TypedDict, total=False):
    """The options of ``using()`` besides ``takes_outcome``."""

    when: When | Callable[[Outcome], object]
    timeout: float | None
    key: object
    name: str | None
    concurrent: bool
    lane: Lane | None
    request: Any
    on_commit: bool | str
    delivery_timeout: float | None


def changed(options: Options, changes: dict[str, Any]) -> Options:
    """``options`` with ``changes``. Raises ``TypeError`` or ``ValueError``."""
    known = {*_CHECKS, "request"}
    unknown = sorted(changes.keys() - known)
    if unknown:
        raise TypeError(
            f"using() has no option {', '.join(map(repr, unknown))}."
            f" The options are: {', '.join(sorted(known))}.{conf.did_you_mean(unknown[0], known)}"
        )
    own = {name: value for name, value in changes.items() if name != "request"}
    for name, value in own.items():
        _CHECKS[name](name, value)
    return replace(options, **own)


def _check_when(option: str, value: object) -> None:
    if callable(value):
        if iscoroutinefunction(value) or iscoroutinefunction(type(value).__call__):
            raise TypeError(
                "using(when=...) needs a plain predicate: an async one gives a coroutine,"
                " which is always true"
            )
    elif value not in get_args(When):
        names = ", ".join(map(repr, get_args(When)))
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"using(when={value!r}): must be one of {names}, or a predicate of the outcome")


def _check_seconds(option: str, value: object) -> None:
    if value is not None and not conf.is_seconds(value):
        kind = ValueError if isinstance(value, (int, float)) else TypeError
        raise kind(f"using({option}={value!r}): must be a number of seconds above 0, or None")


def _check_on_commit(option: str, value: object) -> None:
    if not isinstance(value, bool | str) or value == "":
        raise TypeError(
            f"using(on_commit={value!r}): must be True, False or the alias of a database"
        )


def _check_key(option: str, value: object) -> None:
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"using(key=...): a {type(value).__name__} is not hashable") from None


def _check_name(option: str, value: object) -> None:
    if value is not None and not (isinstance(value, str) and value and value.isprintable()):
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(
            f"using(name={value!r}): must be a string that can be printed on one line, or None"
        )


def _check_flag(option: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"using({option}={value!r}): must be True or False")


def _check_lane(option: str, value: object) -> None:
    if value is not None and value not in get_args(Lane):
        names = ", ".join(map(repr, get_args(Lane)))
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"using(lane={value!r}): must be one of {names}, or None")


_CHECKS: dict[str, Callable[[str, object], None]] = {
    "when": _check_when,
    "takes_outcome": _check_flag,
    "timeout": _check_seconds,
    "delivery_timeout": _check_seconds,
    "on_commit": _check_on_commit,
    "key": _check_key,
    "name": _check_name,
    "concurrent": _check_flag,
    "lane": _check_lane,
}
