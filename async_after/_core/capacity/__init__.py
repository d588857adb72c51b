"""How many callbacks run and wait, and the account of all of them."""

from . import reports
from .capacity import Capacity
from .chains import Alone, Chain, SingleChain, Starter, run_alone
from .overflow import RunnerFull

__all__ = [
    "Alone",
    "Capacity",
    "Chain",
    "RunnerFull",
    "SingleChain",
    "Starter",
    "reports",
    "run_alone",
]
