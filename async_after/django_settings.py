"""The namespace of Django's settings, for what asks at every callback.

Django looks each attribute of ``settings`` up in Python, which costs as much as
all the rest of a registration. It is looked up by name, and never imported
(promise 13).
"""

import sys
from typing import Any

_UNKNOWN: Any = object()
_namespace: dict[str, Any] | None = None


def cached() -> dict[str, Any] | None:
    """What Django has put into ``settings`` itself: ``_wrapped``, the holder of the
    settings, and each one that was asked for since that changed. ``None``
    without Django.

    The one door to ``LazySettings.__dict__``, which stays the same as long as
    the process lives.
    """
    global _namespace
    if _namespace is None:
        conf: Any = sys.modules.get("django.conf")
        if conf is not None and hasattr(conf, "settings"):
            _namespace = object.__getattribute__(conf.settings, "__dict__")
    return _namespace


def value(name: str) -> Any:
    """A setting that Django has; ``None`` without Django, or without settings."""
    namespace = _namespace or cached()
    if namespace is None:
        return None
    found = namespace.get(name, _UNKNOWN)
    if found is not _UNKNOWN:
        return found
    settings: Any = sys.modules["django.conf"].settings
    return getattr(settings, name) if settings.configured else None
