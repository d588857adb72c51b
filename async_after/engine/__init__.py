"""What starts callbacks: the slots that bound them, and the ledger that accounts for them."""

from .chains import Alone, Chain, SingleChain, run_alone
from .engine import Engine
from .ledger import Statistics
from .overflow import RunnerFull

__all__ = ["Alone", "Chain", "Engine", "RunnerFull", "SingleChain", "Statistics", "run_alone"]
