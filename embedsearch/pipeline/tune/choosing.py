"""From values of candidates, one a query, to a choice that few queries can bear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.pipeline.tune.splits import folds_of

Values = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Choice:
    """best: the number of the candidate whose gain over the default is the surest. gain, error: what choosing so gains
    on queries that the choice did not see, by cross-validation, and its standard error. taken: best, or the default.
    """

    best: int
    gain: float
    error: float
    taken: int


def choose(values: Values, groups: Rows, default: int) -> Choice:
    """values: candidates x queries, without NaN. groups: of the queries; queries of one stay together.

    The candidate with the highest `sureness` is taken where choosing that way, cross-validated over the groups, gains
    over the default; else the default.
    """
    best = int(sureness(values, groups, default).argmax())
    folds = folds_of(groups)
    if folds.max(initial=0) == 0:
        return Choice(best, 0.0, float("inf"), default)  # one group: nothing can be held out
    gains = np.zeros(values.shape[1])
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        chosen = int(sureness(values[:, ~held], groups[~held], default).argmax())
        gains[held] = values[chosen, held] - values[default, held]
    gain = float(gains.mean())
    error = float(clustered_error(gains[None], groups)[0])
    return Choice(best, gain, error, best if gain > 0 else default)


def sureness(values: Values, groups: Rows, default: int) -> Values:
    """Of each candidate its mean gain over the default, by the standard error of that gain plus the median one.

    The largest of hundreds of means is mostly luck; a gain that most queries share is not. What is added keeps small
    gains of hardly any error from winning (Tusher, Tibshirani & Chu, "Significance analysis of microarrays", 2001).
    """
    apart = values - values[default]
    errors = clustered_error(apart, groups)
    some = errors[np.isfinite(errors) & (errors > 0)]
    usual = float(np.median(some)) if len(some) else 1.0
    errors = np.where(np.isfinite(errors), errors, usual)  # one group tells nothing of it
    return np.asarray(apart.mean(axis=1) / (errors + usual))


def clustered_error(values: Values, groups: Rows) -> Values:
    """The standard error of the mean of each row, of values that are alike within their groups (Liang & Zeger, 1986);
    infinite for one group."""
    n = values.shape[1]
    names, at = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return np.full(len(values), np.inf)
    member = np.zeros((n, len(names)))
    member[np.arange(n), at] = 1
    sums = (values - values.mean(axis=1, keepdims=True)) @ member
    return np.asarray(np.sqrt((sums**2).sum(axis=1) * len(names) / (len(names) - 1)) / n)
