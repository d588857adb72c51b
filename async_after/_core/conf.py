"""The setting ``ASYNC_AFTER`` of a Django project, and the bounds of a runner.

Settings are read at first use, and when Django's ``setting_changed`` tells of another value:
one that is changed in place, or assigned without that signal, is not seen. Django is looked
up by name (promise 13): the wrappers need no other set-up.
"""

import difflib
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from threading import TIMEOUT_MAX
from typing import Any, Literal, NamedTuple, get_args

from .exchange import Hooks
from .runtime import Pace, clock, django_settings, log, process

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
    instruments: Sequence[object] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            check, value = _CHECKS[field.name], getattr(self, field.name)
            wrong = check.refuse(value)
            if wrong is not None:
                raise wrong(f"Runner({field.name}=...) {check.message(value)}")
        object.__setattr__(self, "instruments", tuple(_made(i) for i in self.instruments))


def _positive_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _instruments(value: object) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and not any(map(_wrong_instrument, value))
    )


def _wrong_instrument(item: object) -> str | None:
    """What is wrong with an instrument, a class of them, or the dotted path of one."""
    try:
        named = _named(item)
    except Exception as error:
        return f"{item!r} cannot be imported ({type(error).__name__}: {error})"
    if any(callable(getattr(named, hook, None)) for hook in Hooks._fields):
        return None
    return f"{shown(item)} has none of the hooks"


def _named(item: object) -> Any:
    if not isinstance(item, str):
        return item
    module, _, name = item.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _why_no_instruments(value: object) -> str:
    wrong = map(_wrong_instrument, value) if isinstance(value, list | tuple) else ()
    return "".join(f": {why}" for why in wrong if why)


def _made(item: object) -> object:
    """The instrument itself: of a class, or of its dotted path, a new one."""
    named = _named(item)
    return named() if isinstance(named, type) else named


class Check(NamedTuple):
    """What a setting, or an option of ``using()``, must be."""

    is_right: Callable[[Any], bool]
    expected: str
    of: tuple[type, ...] = ()
    """A wrong value of these types is a ``ValueError``, any other a ``TypeError``."""
    why: Callable[[Any], str] = lambda value: ""
    """What is wrong with it, where that is not plain to see."""

    def refuse(self, value: object) -> type[Exception] | None:
        """The built-in exception for a wrong value; ``None`` for a right one."""
        try:
            if self.is_right(value):
                return None
        except Exception:  # an unhashable or incomparable value, say
            pass
        is_other = isinstance(value, bool) and bool not in self.of
        return ValueError if isinstance(value, self.of) and not is_other else TypeError

    def message(self, value: Any) -> str:
        """What is wrong with a wrong value."""
        return f"must be {self.expected}, not {shown(value)}{self.why(value)}"


def at_most(limit: float) -> Callable[[Any], str]:
    """``Check.why`` of a number that may be too large."""

    def why(value: Any) -> str:
        is_over = isinstance(value, (int, float)) and value > limit
        return f" (at most {limit:.0f})" if is_over else ""

    return why


def one_of(literal: Any, expected: str) -> Check:
    return Check(lambda value: value in get_args(literal), expected, (str,))


_COUNT = Check(_positive_integer, "an integer, 1 or more", (int, float))
_SECONDS = Check(
    lambda v: clock.is_seconds(v, zero=True),
    "a number of seconds, 0 or more",
    (int, float),
    at_most(TIMEOUT_MAX),
)
_EVER = timedelta.max.total_seconds()
"""Nobody waits for a time limit at a stretch (``Timers``), but it has to be one."""
TIME_LIMIT = Check(
    lambda v: v is None or clock.is_seconds(v, at_most=_EVER),
    "a number of seconds above 0, or None",
    (int, float),
    at_most(_EVER),
)
_CHECKS: dict[str, Check] = {
    "limit": _COUNT,
    "max_threads": _COUNT,
    "pending_limit": _COUNT,
    "overflow": one_of(Overflow, '"wait", "drop" or "raise"'),
    "slow_step": TIME_LIMIT,
    "switch_interval": Check(
        lambda v: v is None or (clock.is_seconds(v, at_most=_EVER) and v >= 1e-6),
        "a number of seconds, 0.000001 or more, or None",
        (int, float),
        at_most(_EVER),
    ),
    "timeout": TIME_LIMIT,
    "wait_timeout": _SECONDS,
    "close_timeout": _SECONDS,
    "instruments": Check(
        _instruments,
        "a list of instruments (objects, classes or dotted paths), each with at least one of the"
        " hooks registered, started and ended, and around",
        why=_why_no_instruments,
    ),
    "outside_request": one_of(Literal["raise", "run"], '"raise" or "run"'),
    "wsgi_lane": one_of(WsgiLane, '"threads" or "inline"'),
}
SETTINGS = tuple(sorted(name.upper() for name in _CHECKS))


def shown(value: object) -> str:
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
    raw = django_settings.value("ASYNC_AFTER", {})
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
            found.append(f"ASYNC_AFTER[{key!r}] {check.message(value)}.")
    return found


_DEFAULTS = {field.name: field.default for field in fields(Bounds)} | {
    "outside_request": "raise",
    # The next request on the connection, and the server's thread, do not wait.
    "wsgi_lane": "threads",
}
is_known: bool = False
"""Whether all below is what the settings say. Who is in a hurry looks at this alone."""
debug: bool = False
"""``DEBUG``."""
_given: Mapping[str, Any] = {}
"""The last ``ASYNC_AFTER`` that was right, ..."""
_bounds: Bounds = Bounds()
"""... and what it says."""
_wrong_pace = Pace(1, 60.0)


def check() -> None:
    """Raise Django's ``ImproperlyConfigured`` if anything in ``ASYNC_AFTER`` is wrong."""
    if not is_known:
        _read()


def bounds() -> Bounds:
    """The bounds of the default runner. Raises as ``check`` does."""
    check()
    return _bounds


def setting(name: str) -> Any:
    """One setting, by the name of the parameter (``"limit"``), or its default.

    Raises as ``check`` does.
    """
    check()
    return _given.get(name.upper(), _DEFAULTS[name])


def last_right() -> Bounds:
    """The bounds before the settings became wrong, if they have."""
    return _bounds


def _read() -> None:
    global is_known, debug, _given, _bounds
    if not django_settings.is_configured():
        return  # the defaults, until Django is there
    found = problems()
    if found:
        raise _improper(" ".join(found))
    given = dict(django_settings.value("ASYNC_AFTER") or {})
    names = [field.name for field in fields(Bounds) if field.name.upper() in given]
    try:
        bounds = Bounds(**{name: given[name.upper()] for name in names})
    except Exception as error:
        what = "an instrument of ASYNC_AFTER['INSTRUMENTS'] cannot be made"
        raise _improper(f"{what} ({type(error).__name__}: {error})") from error
    _given, _bounds = given, bounds
    debug = bool(django_settings.value("DEBUG"))
    django_settings.listen(_changed)
    is_known = True
    for each in process.living():
        each.follow_settings()


def _improper(message: str) -> Exception:
    exceptions: Any = sys.modules["django.core.exceptions"]
    error: Exception = exceptions.ImproperlyConfigured(message)
    return error


def _changed(*, setting: str, **more: Any) -> None:
    """Django's signal ``setting_changed``. What is wrong now is refused where it enters; what is
    under way goes on within the last right bounds."""
    global is_known, debug
    if setting == "DEBUG":
        debug = bool(django_settings.value("DEBUG"))
        for each in process.living():
            each.follow_settings()
    if setting != "ASYNC_AFTER":
        return
    is_known = False
    try:
        _read()
    except Exception:
        if _wrong_pace.is_due():
            message = "ASYNC_AFTER is wrong now: the last right settings are kept"
            log("exception", "settings_wrong", message)
