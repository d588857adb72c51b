"""Medians and their bootstrap intervals."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median and its 95 % interval."""

    value: float
    low: float
    high: float

    def over(self, divisor: float) -> "Estimate":
        return Estimate(self.value / divisor, self.low / divisor, self.high / divisor)


def estimate(samples: Sequence[float], seed: int) -> Estimate:
    """The median of ``samples`` and its percentile bootstrap interval."""
    generator = random.Random(seed)
    size = len(samples)
    resampled = sorted(median(generator.choices(samples, k=size)) for _ in range(RESAMPLES))
    margin = round(RESAMPLES * 0.025)
    return Estimate(median(samples), resampled[margin], resampled[-1 - margin])


def ratios(numerators: Sequence[float], denominators: Sequence[float], seed: int) -> Estimate:
    """The median of the ratios round by round: what slows a whole round down cancels."""
    pairs = zip(numerators, denominators, strict=True)
    return estimate([above / below for above, below in pairs], seed)


def differences(changed: Sequence[float], baseline: Sequence[float], seed: int) -> Estimate:
    """The median of the differences pair by pair."""
    pairs = zip(changed, baseline, strict=True)
    return estimate([with_ - without for with_, without in pairs], seed)


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least this share of them does not exceed."""
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]
