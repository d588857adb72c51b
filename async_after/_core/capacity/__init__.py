"""How many callbacks run and wait, and the account of all of them."""

from . import reports
from .capacity import Capacity
from .chains import Alone, Chain, SingleChain, run_alone
from .overflow import RunnerFull

__all__ = [
    "Alone",
    "Capacity",
    "Chain",
    "RunnerFull",
    "SingleChain",
    "reports",
    "run_alone",
]
