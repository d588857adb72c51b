"""Django's settings, for a core that never imports Django where nobody else has (promise 13)."""

import importlib
import sys
from collections.abc import Callable
from typing import Any


def is_configured() -> bool:
    """Whether the program uses Django: it is loaded, and has settings."""
    conf: Any = sys.modules.get("django.conf")
    # Half of it is there while another thread imports it.
    return hasattr(conf, "settings") and bool(conf.settings.configured)


def value(name: str, default: Any = None) -> Any:
    """A setting that Django has, or that it has not."""
    return (
        getattr(sys.modules["django.conf"].settings, name, default) if is_configured() else default
    )


def listen(changed: Callable[..., None]) -> None:
    """Let ``changed`` hear of ``setting_changed``, once however often this is called."""
    signals: Any = importlib.import_module("django.core.signals")
    signals.setting_changed.connect(changed, dispatch_uid=changed)
