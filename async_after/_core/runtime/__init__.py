"""The process that we live in: threads, greenlets, fork and exit, its settings and its log.

Knows nothing of exchanges. All else stands on it.
"""

from . import django_settings, gevent, process
from .latch import Latch
from .log import Pace, is_debug, log, pass_on
from .loop import is_in_loop, running_loop
from .switch_interval import SwitchInterval
from .timers import Timers

__all__ = [
    "Latch",
    "Pace",
    "SwitchInterval",
    "Timers",
    "django_settings",
    "gevent",
    "is_debug",
    "is_in_loop",
    "log",
    "pass_on",
    "process",
    "running_loop",
]
