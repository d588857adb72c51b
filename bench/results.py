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
    control: Estimate | None = None
    """What the same method finds between a thing and itself, in the same unit: its error.
    For differences, which are nothing then."""

    @property
    def is_met(self) -> bool | None:
        if self.aim is None:
            return None
        if self.better == "lower":
            return self.estimate.high <= self.aim
        return self.estimate.low >= self.aim

    @property
    def is_noisy(self) -> bool:
        """Whether the method's own error is more than the aim allows. Then nothing is
        shown, but where the interval lies beyond that error too."""
        if self.aim is None or self.control is None:
            return False
        error = reach(self.control)
        return error > self.aim and self.estimate.low <= error


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


def reach(control: Estimate) -> float:
    """How far the interval of a control, which should hold 0, goes to either side."""
    return max(control.high, -control.low)


def count(value: float) -> Estimate:
    """A number that was counted, not estimated."""
    return Estimate(value, value, value)
