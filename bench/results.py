"""What a benchmark has found, as data: for ``results.json``, the plots and comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .stats import Estimate, quantile

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, and what it is of."""

    name: str
    """The same in every run: ``latency/uvicorn httptools/async sleep/next request``."""
    unit: str
    """``"s"``, ``"ns"``, ``"x"`` for ratios, ``"count"``, ``"bytes"``, ``"share"``."""
    estimate: Estimate
    """With its 95 % interval; a count is its own interval."""
    baseline: float | None = None
    """What it is compared with, in the same unit: the median without a callback, say."""
    better: Better = "lower"
    aim: float | None = None
    """The limit that the whole interval is to keep, if there is one."""

    @property
    def is_met(self) -> bool | None:
        if self.aim is None:
            return None
        if self.better == "lower":
            return self.estimate.high <= self.aim
        return self.estimate.low >= self.aim


@dataclass(frozen=True, slots=True)
class Curve:
    """How samples are distributed, for a plot: values at the shares of ``SHARES``."""

    name: str
    unit: str
    values: Sequence[float]


SHARES = (*(i / 100 for i in range(1, 100)), 0.995, 0.999, 1.0)


def curve(name: str, unit: str, samples: Sequence[float]) -> Curve:
    ordered = sorted(samples)
    return Curve(name, unit, [quantile(ordered, share) for share in SHARES])


def count(value: float) -> Estimate:
    """A number that was counted, not estimated."""
    return Estimate(value, value, value)
