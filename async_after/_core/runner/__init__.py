"""The runner: takes the callbacks of ended exchanges to the lanes, and drains them at shutdown."""

from .acknowledgements import DELIVERY_TIMEOUT
from .dispatch import Dispatcher, LoopDispatcher
from .inline import InlineDispatcher
from .runner import Runner, get_runner
from .work import Work

__all__ = [
    "DELIVERY_TIMEOUT",
    "Dispatcher",
    "InlineDispatcher",
    "LoopDispatcher",
    "Runner",
    "Work",
    "get_runner",
]
