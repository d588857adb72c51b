"""Starts callbacks, bounds them, accounts for them, and drains them at shutdown."""

from .acknowledged import DELIVERY_TIMEOUT
from .chains import Alone, Chain, SingleChain
from .default import get_runner
from .dispatcher import Dispatcher, LoopDispatcher
from .inline import InlineDispatcher
from .ledger import Statistics
from .overflow import RunnerFull
from .runner import Runner

__all__ = [
    "DELIVERY_TIMEOUT",
    "Alone",
    "Chain",
    "Dispatcher",
    "InlineDispatcher",
    "LoopDispatcher",
    "Runner",
    "RunnerFull",
    "SingleChain",
    "Statistics",
    "get_runner",
]
