"""What starts callbacks: the slots that bound them, and the ledger that accounts for them."""

from .capacity import Capacity
from .chains import Alone, Chain, SingleChain, run_alone
from .ledger import Statistics
from .overflow import RunnerFull

__all__ = ["Alone", "Capacity", "Chain", "RunnerFull", "SingleChain", "Statistics", "run_alone"]
