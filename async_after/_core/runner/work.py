"""What is to be run where somebody waits for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..capacity import Chain, SingleChain, Starter
from ..exchange import Callback, Exchange


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be run, with what comes meanwhile."""

    pending: Callable[[], Sequence[Callback[Any]]]
    """Those that have not started."""
    claim: Callable[[], Sequence[Chain]]
    """What is to be started now."""
    pause: float = 0.0
    """Seconds between two looks, where no event tells of what comes."""


def work_of(starter: Starter, exchange: Exchange) -> Work:
    """The callbacks of one exchange."""

    def claim() -> list[Chain]:
        chains: list[Chain] = []
        claimed = exchange.claim()
        try:
            for each in claimed:
                if each is None:
                    chains.append(Chain(starter, exchange))
                else:
                    chains.append(SingleChain(starter, exchange, each))
        except BaseException:
            exchange.reclaim(*claimed)
            raise
        return chains

    return Work(exchange.pending, claim)
