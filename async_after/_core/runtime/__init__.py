"""The process that we live in: threads, greenlets, fork and exit, its settings and its log.

Knows nothing of exchanges. All else stands on it.
"""

from . import clock, django_settings, gevent, process
from .bell import Bell
from .clock import monotonic
from .gate import Gate, change
from .latch import Latch
from .log import Pace, is_debug, log, pass_on, traceback_of
from .loop import is_unstarted, running_loop
from .stack import check_stack
from .switch_interval import SwitchInterval
from .timers import LoopTimer, Timers

__all__ = [
    "Bell",
    "Gate",
    "Latch",
    "LoopTimer",
    "Pace",
    "SwitchInterval",
    "Timers",
    "change",
    "check_stack",
    "clock",
    "django_settings",
    "gevent",
    "is_debug",
    "is_unstarted",
    "log",
    "monotonic",
    "pass_on",
    "process",
    "running_loop",
    "traceback_of",
]
