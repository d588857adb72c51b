"""The setting ``ASYNC_AFTER`` of a Django project, and the bounds of a runner.

Settings are read at access, so that ``override_settings`` works. Django is looked up by
name and never imported (promise 13): the wrappers need no other set-up.
"""

import difflib
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

from .instrumentation import Instrument
from .runtime import django_settings

Overflow = Literal["wait", "drop", "raise"]
WsgiLane = Literal["threads", "inline"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What bounds a runner; the parameters of ``Runner`` and their defaults."""

    # Callbacks mostly wait, for a mail server or a webhook; a hundred at once
    # are cheap for a loop and rarely too many for the other side.
    limit: int = 100
    # Plain functions mostly wait for I/O too, so the number of cores does not
    # matter: as many as asyncio's default executor has at most.
    max_threads: int = 32
    # Ten times the limit: with callbacks of a second each, those at the end of
    # the line wait ten seconds. A waiting one holds a few kilobytes.
    pending_limit: int = 1000
    # Nothing is lost by default.
    overflow: Overflow = "wait"
    timeout: float | None = None
    # Shorter than a person notices, longer than any step that only computes a
    # little: as asyncio's own slow_callback_duration.
    slow_step: float | None = 0.1
    # Measured (``bench interference``): below it the switching itself costs more.
    switch_interval: float | None = 0.0005
    # Together under 30 s, after which gunicorn and Kubernetes kill.
    wait_timeout: float = 20.0
    close_timeout: float = 5.0
    instruments: Sequence[Instrument] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            check, value = _CHECKS[field.name], getattr(self, field.name)
            wrong = check.refuse(value)
            if wrong is not None:
                message = f"must be {check.expected}, not {_shown(value)}"
                raise wrong(f"Runner({field.name}=...) {message}")
        object.__setattr__(self, "instruments", tuple(self.instruments))


def _positive_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_seconds(value: object, *, zero: bool = False) -> bool:
    """A finite number of seconds above zero (or zero, if that is allowed)."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return math.isfinite(value) and (value >= 0 if zero else value > 0)


def _instruments(value: object) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(item, Instrument) for item in value)
    )


class Check(NamedTuple):
    """What a setting, or an option of ``using()``, must be."""

    is_right: Callable[[Any], bool]
    expected: str
    of: tuple[type, ...] = ()
    """A wrong value of these types is a ``ValueError``, any other a ``TypeError``."""

    def refuse(self, value: object) -> type[Exception] | None:
        """The built-in exception for a wrong value; ``None`` for a right one."""
        try:
            if self.is_right(value):
                return None
        except Exception:  # an unhashable or incomparable value, say
            pass
        is_other = isinstance(value, bool) and bool not in self.of
        return ValueError if isinstance(value, self.of) and not is_other else TypeError


def one_of(literal: Any, expected: str) -> Check:
    return Check(lambda value: value in get_args(literal), expected, (str,))


_COUNT = Check(_positive_integer, "an integer, 1 or more", (int, float))
_SECONDS = Check(lambda v: is_seconds(v, zero=True), "a number of seconds, 0 or more", (int, float))
TIME_LIMIT = Check(
    lambda v: v is None or is_seconds(v), "a number of seconds above 0, or None", (int, float)
)
_CHECKS: dict[str, Check] = {
    "limit": _COUNT,
    "max_threads": _COUNT,
    "pending_limit": _COUNT,
    "overflow": one_of(Overflow, '"wait", "drop" or "raise"'),
    "slow_step": TIME_LIMIT,
    "switch_interval": Check(
        lambda v: v is None or (is_seconds(v) and v >= 1e-6),
        "a number of seconds, 0.000001 or more, or None",
        (int, float),
    ),
    "timeout": TIME_LIMIT,
    "wait_timeout": _SECONDS,
    "close_timeout": _SECONDS,
    "instruments": Check(
        _instruments,
        "a list of objects (no dotted paths) with the methods registered, started and ended",
    ),
    "outside_request": one_of(Literal["raise", "run"], '"raise" or "run"'),
    "wsgi_lane": one_of(WsgiLane, '"threads" or "inline"'),
}
SETTINGS = tuple(sorted(name.upper() for name in _CHECKS))


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return f"a {type(value).__name__}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint at the end of a message, or nothing."""
    close = difflib.get_close_matches(word, [*known], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def problems() -> list[str]:
    """Everything that is wrong with ``ASYNC_AFTER``, a sentence each."""
    raw = _raw()
    if not isinstance(raw, Mapping):
        return [f"ASYNC_AFTER must be a dict, not {type(raw).__name__}."]
    found = []
    for key, value in raw.items():
        if key not in SETTINGS:
            found.append(
                f"ASYNC_AFTER has an unknown key {key!r}. The keys are: {', '.join(SETTINGS)}."
                + did_you_mean(key.upper() if isinstance(key, str) else "", SETTINGS)
            )
            continue
        check = _CHECKS[key.lower()]
        if check.refuse(value):
            found.append(f"ASYNC_AFTER[{key!r}] must be {check.expected}, not {_shown(value)}.")
    return found


_DEFAULTS = {field.name: field.default for field in fields(Bounds)} | {
    "outside_request": "raise",
    # The next request on the connection, and the server's thread, do not wait.
    "wsgi_lane": "threads",
}
_UNKNOWN = object()
checked: tuple[object, dict[str, Any], Bounds] = (_UNKNOWN, {}, Bounds())
"""The last ``ASYNC_AFTER`` that was right, a copy of it, and what it says. Who is in a hurry
compares the object alone: the default runner asks for ``bounds()`` behind each response, and
sees what was changed inside of it."""
followers: list[Callable[[Bounds], None]] = []
"""Who is told when that has changed."""


def check() -> None:
    """Raise Django's ``ImproperlyConfigured`` if anything in ``ASYNC_AFTER`` is wrong."""
    bounds()


def bounds() -> Bounds:
    """The bounds of the default runner: the settings, read at each access.

    Raises as ``check`` does.
    """
    global checked
    # Asked again and again, so that it is checked again only when it has changed, and
    # without a call where it has not.
    namespace, known = django_settings.namespace, checked
    if namespace is not None:
        raw: Any = namespace.get("ASYNC_AFTER")
        if raw is None and namespace.get("_wrapped") is _without:
            raw = _NOTHING if "ASYNC_AFTER" not in _without.__dict__ else None
        if raw is not None and raw is known[0] and raw == known[1]:
            return known[2]
    raw = _raw()
    if raw is not known[0] or raw != known[1]:
        found = problems()
        if found:
            checked = _UNKNOWN, known[1], known[2]  # until it is right again, all ask
            exceptions: Any = sys.modules["django.core.exceptions"]
            raise exceptions.ImproperlyConfigured(" ".join(found))
        names = [field.name for field in fields(Bounds) if field.name.upper() in raw]
        known = checked = raw, dict(raw), Bounds(**{name: raw[name.upper()] for name in names})
        for follow in followers:
            follow(known[2])
    return known[2]


def setting(name: str) -> Any:
    """One setting, by the name of the parameter (``"limit"``), or its default.

    Raises as ``check`` does.
    """
    bounds()
    return checked[1].get(name.upper(), _DEFAULTS[name])


def _raw() -> object:
    """``ASYNC_AFTER`` as it is now, or an empty dict.

    The holder of the settings is another object as soon as they are overridden.
    """
    global _without
    namespace = django_settings.found()
    if namespace is None:
        return _NOTHING
    settings: Any = sys.modules["django.conf"].settings
    if not settings.configured:
        return _NOTHING
    holder = namespace.get("_wrapped")
    raw = getattr(settings, "ASYNC_AFTER", _NOTHING)
    # Another thread may have overridden the settings meanwhile.
    is_without = raw is _NOTHING and holder is not None and namespace.get("_wrapped") is holder
    _without = holder if is_without else sys
    return raw


_NOTHING: dict[str, Any] = {}
_without: Any = sys
"""The holder that was last seen to have no ``ASYNC_AFTER``."""
