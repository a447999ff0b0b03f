"""What each list of neighbours says of the rows in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.types import Metric

RRF_K = 1
_TIE = 1e-6  # less than lies between any two neighbouring ranks that count: it only parts what is level

Values = NDArray[np.float64]


def likeness(scores: NDArray[np.float32], metric: Metric) -> Values:
    """Scores as something that grows with likeness: inner products as they are, a squared distance d as 1 / (1 + d)."""
    if metric.higher_is_better:
        return scores.astype(np.float64)
    return 1 / (1 + np.maximum(scores.astype(np.float64), 0))


def _tie(alike: Values) -> Values:
    return np.asarray(_TIE * alike / (1 + np.abs(alike)), np.float64)


def reciprocal_ranks(alike: Values, weights: Values, constant: int = RRF_K) -> Values:
    """weight / (constant + rank) for each place of each list, rank counted from 1: reciprocal rank fusion (Cormack,
    Clarke & Buettcher, SIGIR 2009), weighted. Theirs is 1 / (60 + rank), for lists of a whole search; of the neighbours
    of one item the first few tell most. What comes out level is parted by likeness.

    alike: n_lists x depth, best first. weights: n_lists, of either sign.
    """
    ranks = np.arange(1, alike.shape[1] + 1)
    return np.asarray(weights[:, None] * (1 / (constant + ranks) + _tie(alike)), np.float64)


def weighted_likeness(alike: Values, weights: Values) -> Values:
    """weight x likeness."""
    return np.asarray(weights[:, None] * alike, np.float64)


def seats(alike: Values, weights: Values, is_open: NDArray[np.bool_]) -> Values:
    """weight / (2 p + 1) for the row that is p-th (from 0) among those of its list that may be answers: the quotients
    of Sainte-Laguë, by which slots fall to lists in proportion to their weights (Dang & Croft, SIGIR 2012).

    is_open: n_lists x depth, False for rows that are no answers.
    """
    places = np.maximum(np.cumsum(is_open, axis=1) - 1, 0)
    return np.asarray(weights[:, None] * (1 / (2 * places + 1) + _tie(alike)), np.float64)
