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
        check = _CHECKS[name]
        wrong = check.refuse(value)
        if wrong is not None:
            must = f"must be {check.expected}{check.why(value)}"
            raise wrong(f"using({name}={conf.shown(value)}): {must}")
    try:
        hash(own.get("key"))
    except TypeError:
        kind = type(own["key"]).__name__
        raise TypeError(f"using(key=...): a {kind} is not hashable") from None
    if _is_async(own.get("when")):
        raise TypeError(
            "using(when=...) needs a plain predicate: an async one gives a coroutine,"
            " which is always true"
        )
    return replace(options, **own)


def _is_when(value: object) -> bool:
    return value in get_args(When) if isinstance(value, str) else callable(value)


def _is_async(value: object) -> bool:
    is_one = callable(value) and iscoroutinefunction(type(value).__call__)
    return is_one or iscoroutinefunction(value)


def _listed(literal: Any) -> str:
    return ", ".join(map(repr, get_args(literal)))


_SECONDS = conf.TIME_LIMIT._replace(of=(int, float, bool))
_FLAG = conf.Check(lambda value: isinstance(value, bool), "True or False")
_CHECKS: dict[str, conf.Check] = {
    "when": conf.Check(_is_when, f"one of {_listed(When)}, or a predicate of the outcome", (str,)),
    "takes_outcome": _FLAG,
    "timeout": _SECONDS,
    "delivery_timeout": _SECONDS,
    "on_commit": conf.Check(
        lambda value: isinstance(value, bool | str) and value != "",
        "True, False or the alias of a database",
    ),
    "key": conf.Check(lambda value: True, "hashable"),
    "name": conf.Check(
        lambda v: v is None or (isinstance(v, str) and v != "" and v.isprintable()),
        "a string that can be printed on one line, or None",
        (str,),
    ),
    "concurrent": _FLAG,
    "lane": conf.Check(
        lambda value: value is None or value in get_args(Lane),
        f"one of {_listed(Lane)}, or None",
        (str,),
    ),
}
