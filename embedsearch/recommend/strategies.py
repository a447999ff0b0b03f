"""The ways to recommend by name, and which is taken when none is named."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import unknown
from embedsearch.types import Metric

Strategy = Literal["centroid", "agreement", "max", "clusters"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
AUTO = "auto"
NEIGHBOURS = 20  # of each favourite that count in agreement, and are looked at first for max
FEW = 3  # from so many favourites on, the best of them tells more than their mean


def require_strategy(name: str) -> str:
    """`name`, when it is "auto" or a strategy. Raises UnknownNameError."""
    if name not in (AUTO, *STRATEGIES):
        raise unknown("strategy", name, [AUTO, *STRATEGIES])
    return name


def chosen(name: str, metric: Metric, n_liked: NDArray[np.int64]) -> NDArray[np.int64]:
    """The strategy of each user, as a place in STRATEGIES. n_liked: how many items each likes.

    "auto" as benchmarks/recommend.py measured it (docs/recommend-measured.md): under ip, where factors lie that were
    learnt for sums of them, the mean is best or level at every length. Vectors of content lie about their mean as
    nothing in particular does: from FEW favourites on `max` finds more, and ever more the longer the history is.
    """
    if name != AUTO:
        return np.full(len(n_liked), STRATEGIES.index(name), np.int64)
    mean, best = STRATEGIES.index("centroid"), STRATEGIES.index("max")
    if metric is Metric.IP:
        return np.full(len(n_liked), mean, np.int64)
    return np.where(n_liked < FEW, mean, best).astype(np.int64)
