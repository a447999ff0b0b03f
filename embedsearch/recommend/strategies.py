"""The ways to recommend by name, and which is taken when none is named."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import unknown

Strategy = Literal["centroid", "agreement", "max", "clusters"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
AUTO = "auto"
NEIGHBOURS = 50  # of each favourite that count in agreement, and are looked at first for max


def require_strategy(name: str) -> str:
    """`name`, when it is "auto" or a strategy. Raises UnknownNameError."""
    if name not in (AUTO, *STRATEGIES):
        raise unknown("strategy", name, [AUTO, *STRATEGIES])
    return name


def chosen(name: str, n_liked: NDArray[np.int64]) -> NDArray[np.int64]:
    """The strategy of each user, as a place in STRATEGIES. n_liked: how many items each likes."""
    if name != AUTO:
        return np.full(len(n_liked), STRATEGIES.index(name), np.int64)
    return np.full(len(n_liked), STRATEGIES.index("agreement"), np.int64)
