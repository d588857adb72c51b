"""The namespace of Django's settings, for what asks at every callback.

Django looks each attribute of ``settings`` up in Python, which costs as much as
all the rest of a registration. It is looked up by name, and never imported
(promise 13).
"""

import sys
from typing import Any

_UNKNOWN: Any = object()
namespace: dict[str, Any] | None = None
"""What Django has put into ``settings`` itself: ``_wrapped``, the holder of the
settings, and each one that was asked for since that changed. ``None`` until
``found`` has found it."""


def found() -> dict[str, Any] | None:
    """``namespace``, if Django is loaded.

    The one door to ``LazySettings.__dict__``, which stays the same as long as
    the process lives. (Another object put in place of ``django.conf.settings`` later
    is not seen.)
    """
    global namespace
    if namespace is None:
        conf: Any = sys.modules.get("django.conf")
        if conf is not None and hasattr(conf, "settings"):
            namespace = object.__getattribute__(conf.settings, "__dict__")
    return namespace


def value(name: str) -> Any:
    """A setting that Django has; ``None`` without Django, or without settings."""
    known = namespace or found()
    if known is None:
        return None
    setting = known.get(name, _UNKNOWN)
    if setting is not _UNKNOWN:
        return setting
    settings: Any = sys.modules["django.conf"].settings
    return getattr(settings, name) if settings.configured else None
