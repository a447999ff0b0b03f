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


def bootstrapped(values: NDArray[np.float64], groups: NDArray[np.int64] | None = None) -> Figure:
    """The mean of one value a query or user, and the 2.5 and 97.5 percentiles of the means of resamples; NaN for no
    values. The same values give the same interval.

    groups: int64, one a value, 0 or more: whole groups are resampled, for values that are alike within theirs, such as
    those of queries with one label (Davison & Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8).
    """
    if not len(values):
        return Figure(float("nan"), float("nan"), float("nan"))
    numbers = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, sizes = np.bincount(numbers, weights=values), np.bincount(numbers)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), RESAMPLES)
    low, high = np.percentile((counts @ sums) / (counts @ sizes), [2.5, 97.5])
    return Figure(float(np.mean(values)), float(low), float(high))
