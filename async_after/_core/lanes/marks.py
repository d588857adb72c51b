"""What a callback leaves on Django's wrapper of a connection, and the next one must not see.

Promise 11, no_leaks: a tenant's name, an execute wrapper, the debug cursor. What the program's
receivers of ``connection_created`` leave there belongs to the connection.
"""

import dis
import importlib
import inspect
import threading
from collections.abc import Sequence
from typing import Any

Marks = dict[str, Any]
"""By name: what stands on a wrapper, and is not Django's."""

_GIVEN = "_async_after_given"
"""The attribute of a wrapper: what receivers of ``connection_created`` have left on it."""
_WRAPPERS = "execute_wrappers"

_plain: dict[type, tuple[Any, set[str]]] = {}
"""For each class of wrapper: a new one, and the names of the attributes that Django sets."""


class _Thread(threading.local):
    before: Marks | None = None
    """A wrapper's marks, before the first receiver was called."""


_here = _Thread()
_is_listening = False


def marks_of(connection: Any) -> Marks | None:
    """To be compared with, later."""
    try:
        return _marks_of(connection)
    except Exception:  # something there has code of its own
        return None


def is_marked(connection: Any, before: Marks | None = None) -> bool:
    """Whether a callback has left something on this wrapper since its marks were ``before``, or
    since it was made. If in doubt, it has."""
    try:
        new, _ = _plain_of(connection)
        base = _marks_of(new) if before is None else before
        given = vars(connection).get(_GIVEN, {})
        wrappers = _without(given.get(_WRAPPERS, ()), base[_WRAPPERS])
        expected = {**base, **given, _WRAPPERS: (*base[_WRAPPERS], *wrappers)}
        kind, now = type(connection), _marks_of(connection)
        for name in {*now, *expected}:
            default = inspect.getattr_static(kind, name, None)
            value, other = now.get(name, default), expected.get(name, default)
            if value is not other and value != other:
                return True
    except Exception:
        return True
    return False


def _marks_of(connection: Any) -> Marks:
    kind = type(connection)
    names = _plain_of(connection)[1] | {_GIVEN}
    own = {name: value for name, value in [*vars(connection).items()] if name not in names}
    # Without what a cached property has put there.
    marks = {n: v for n, v in own.items() if not _has_get(inspect.getattr_static(kind, n, None))}
    marks[_WRAPPERS] = (*connection.execute_wrappers,)
    marks["force_debug_cursor"] = connection.force_debug_cursor
    return marks


def _without(wrappers: Sequence[Any], others: Sequence[Any]) -> tuple[Any, ...]:
    return (*(each for each in wrappers if each not in others),)


def _has_get(attribute: Any) -> bool:
    return hasattr(type(attribute), "__get__")


def _plain_of(connection: Any) -> tuple[Any, set[str]]:
    kind = type(connection)
    if kind not in _plain:
        new = kind(connection.settings_dict, connection.alias)
        _plain[kind] = new, _set_by_django(kind)
    return _plain[kind]


def _set_by_django(kind: type) -> set[str]:
    """The attributes that Django's own methods set on this class of wrapper: some of them only
    when it connects, so that a new wrapper does not show them."""
    djangos = [each for each in kind.__mro__ if each.__module__.startswith("django.")]
    methods = [inspect.unwrap(m) for each in djangos for m in vars(each).values() if callable(m)]
    codes = [method.__code__ for method in methods if inspect.isfunction(method)]
    steps = [step for code in codes for step in dis.get_instructions(code)]
    return {step.argval for step in steps if step.opname == "STORE_ATTR"}


def listen() -> None:
    """See what receivers of ``connection_created`` do, from now on."""
    global _is_listening
    if not _is_listening:
        _is_listening = True
        signal = importlib.import_module("django.db.backends.signals").connection_created
        signal.connect(_before, dispatch_uid=_before)
        signal.connect(_behind, dispatch_uid=_behind)
        _put_around(signal)


def _put_around(signal: Any) -> None:
    """The one door to the order of a signal's receivers, which Django does not let one choose:
    ours are called first, and last. Without it what others leave on a wrapper looks like a
    callback's, and the connection is not kept."""
    with signal.lock:
        ours = {_before: 0, _behind: 2}
        signal.receivers.sort(key=lambda entry: ours.get(entry[0][0], 1))
        signal.sender_receivers_cache.clear()


def _before(*, connection: Any, **more: Any) -> None:
    _here.before = marks_of(connection)


def _behind(*, connection: Any, signal: Any, **more: Any) -> None:
    before, _here.before = _here.before, None
    now = marks_of(connection)
    if before is not None and now is not None:
        given = {name: now[name] for name in now if before.get(name, _here) is not now[name]}
        given[_WRAPPERS] = _without(now[_WRAPPERS], before[_WRAPPERS])
        # Those of an earlier time stay: some are not given twice.
        earlier = vars(connection).get(_GIVEN, {})
        given[_WRAPPERS] = given[_WRAPPERS] or earlier.get(_WRAPPERS, ())
        setattr(connection, _GIVEN, {**earlier, **given})
    if signal.receivers[-1][0][0] is not _behind:  # others have come since: the next time
        _put_around(signal)
