"""A mean, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over queries or users and its 95 % interval, by the bootstrap over them (Efron, 1979)."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} ({self.low:.4f} to {self.high:.4f})"


def bootstrapped(values: NDArray[np.float64]) -> Figure:
    """The mean of one value a query or user, and the 2.5 and 97.5 percentiles of the means of resamples; NaN for no
    values. The same values give the same interval."""
    if not len(values):
        return Figure(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(0)
    shares = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), RESAMPLES) / len(values)
    low, high = np.percentile(shares @ values, [2.5, 97.5])
    return Figure(float(values.mean()), float(low), float(high))
