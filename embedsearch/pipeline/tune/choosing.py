"""From values of candidates, one a query, to a choice that few queries can bear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.pipeline.tune.sample import SEED

Values = NDArray[np.float64]
Rows = NDArray[np.int64]
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Choice:
    """best: the number of the candidate with the largest mean. gain, error: what choosing so gains over the default on
    queries that the choice did not see, by cross-validation, and its standard error. taken: best, or the default."""

    best: int
    gain: float
    error: float
    taken: int


def choose(values: Values, groups: Rows, default: int) -> Choice:
    """values: candidates x queries, without NaN. groups: of the queries; queries of one stay together.

    The candidate with the largest mean is taken where choosing that way, cross-validated over the groups, gains more
    than one standard error over the default (Breiman et al., "Classification and Regression Trees", 1984, section
    3.4.3, for the rule); else the default. So the luckiest of many candidates is not mistaken for the best one.
    """
    best = int(values.mean(axis=1).argmax())
    folds = _folds(groups)
    gains = np.zeros(values.shape[1])
    for fold in range(int(folds.max(initial=0)) + 1):
        held = folds == fold
        if held.all():
            return Choice(best, 0.0, 0.0, default)  # one group: nothing can be held out
        chosen = int(values[:, ~held].mean(axis=1).argmax())
        gains[held] = values[chosen, held] - values[default, held]
    gain, error = float(gains.mean()), clustered_error(gains, groups)
    return Choice(best, gain, error, best if gain > error else default)


def clustered_error(values: Values, groups: Rows) -> float:
    """The standard error of the mean of values that are alike within their groups (Liang & Zeger, 1986)."""
    if not len(values):
        return float("nan")
    apart = np.bincount(groups, weights=values - values.mean())
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        return float("inf")
    return float(np.sqrt((apart**2).sum() * n_groups / (n_groups - 1)) / len(values))


def _folds(groups: Rows) -> Rows:
    """A number for each query, that of its group."""
    names = np.unique(groups)
    sizes = np.bincount(groups)[names]
    order = np.random.default_rng(SEED + 2).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(min(FOLDS, len(names)), np.int64)
    fold_of = np.zeros(int(groups.max()) + 1, np.int64)
    for at in order:
        fold = int(filled.argmin())
        fold_of[names[at]] = fold
        filled[fold] += sizes[at]
    return fold_of[groups]
