"""Vectors that stand for a history: its mean, or the means of a few tastes found in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.recommend.histories import Histories, Items
from embedsearch.types import Metric
from embedsearch.vectors import Matrix, l2_normalize

# what is disliked against what is liked: Manning, Raghavan & Schütze (2008), section 9.1, .15 / .75
PUSH = 0.2
MOST_TASTES = 5
_ROUNDS = 12  # of k-means; a few dozen points settle in fewer
_STEP_VALUES = 2**24  # of the vectors that are clustered at once


def centroids(histories: Histories, x: Matrix) -> Matrix:
    """The weighted mean of each user's items, float32 n_users x D; 0 for users without any.

    histories: with weights above 0, items being rows of x (float32 N x D).
    """
    total = histories.per_user(histories.weights)
    shares = histories.weights / np.maximum(total, 1e-300)[histories.users]
    found = np.zeros((len(histories), x.shape[1]), np.float32)
    shares = shares.astype(np.float32)
    starts = histories.starts.tolist()
    for user in np.flatnonzero(histories.sizes):  # a small product each is faster than one sum over all by segments
        mine = slice(starts[user], starts[user + 1])
        found[user] = shares[mine] @ x[histories.items[mine]]
    return found


def pushed(
    profiles: Matrix, liked: Matrix, disliked: Matrix, has_disliked: NDArray[np.bool_], metric: Metric
) -> Matrix:
    """Profiles moved away from what is disliked, n x D: q - PUSH x mean of the disliked (Rocchio, 1971). Distances have
    no origin to push from, so under l2 it is q + PUSH x (mean of the liked - mean of the disliked).

    profiles, liked, disliked: n x D. has_disliked: where nothing is disliked a profile stays.
    """
    away = -disliked if metric is not Metric.L2 else liked - disliked
    return profiles + np.float32(PUSH) * away * has_disliked[:, None]


def n_tastes(n_liked: Items) -> Items:
    """How many tastes are looked for: sqrt(n / 2) (Mardia, Kent & Bibby, 1979), at most MOST_TASTES."""
    return np.clip(np.rint(np.sqrt(n_liked / 2)), 1, MOST_TASTES).astype(np.int64)


def tastes(histories: Histories, x: Matrix, metric: Metric) -> Items:
    """For each entry, which of its user's tastes it belongs to, from 0: weighted k-means over each history (spherical
    under cosine), begun with the item nearest to the mean and then always the one farthest from all begun with.

    histories: with weights above 0, items being rows of x. All users of about one length are clustered at once.
    """
    found = np.zeros(len(histories.items), np.int64)
    sizes = histories.sizes
    wanted = n_tastes(sizes)
    several = np.flatnonzero(wanted > 1)
    order = several[np.argsort(sizes[several], kind="stable")]
    while len(order):
        longest = np.maximum.accumulate(sizes[order])
        n = max(int(np.searchsorted(longest * np.arange(1, len(order) + 1), _STEP_VALUES // x.shape[1], "right")), 1)
        users, order = order[:n], order[n:]
        width = int(sizes[users[-1]])
        spans = histories.starts[users][:, None] + np.arange(width)  # U x L
        there = np.arange(width) < sizes[users][:, None]
        spans = np.where(there, spans, 0)
        weights = np.where(there, histories.weights[spans], 0).astype(np.float32)
        taste = _k_means(x[histories.items[spans]], weights, there, wanted[users], metric)
        found[spans[there]] = taste[there]
    return found


def _k_means(
    points: NDArray[np.float32],
    weights: NDArray[np.float32],
    there: NDArray[np.bool_],
    wanted: Items,
    metric: Metric,
) -> Items:
    """The cluster of each point. points: U x L x D. weights, there: U x L. wanted: clusters of each user."""
    users = np.arange(len(points))
    centres = np.zeros((len(points), int(wanted.max()), points.shape[2]), np.float32)
    mean = np.matmul(weights[:, None], points)[:, 0] / weights.sum(axis=1)[:, None]
    lengths = _lengths(points, metric)
    cost = np.where(there, _costs(points, mean[:, None], metric)[:, :, 0] + lengths, np.inf)
    chosen = cost.argmin(axis=1)
    nearest = np.full(there.shape, np.inf)
    for c in range(centres.shape[1]):
        centres[:, c] = points[users, chosen]
        nearest = np.minimum(nearest, _costs(points, centres[:, c : c + 1], metric)[:, :, 0] + lengths)
        chosen = np.where(there, nearest, -np.inf).argmax(axis=1)
    unused = np.arange(centres.shape[1]) >= wanted[:, None]  # U x C
    taste = np.full(there.shape, -1)
    for _ in range(_ROUNDS):
        costs = _costs(points, centres, metric)
        costs[np.broadcast_to(unused[:, None], costs.shape)] = np.inf
        now = costs.argmin(axis=2)
        if (now == taste).all():
            break
        taste = now
        shares = (taste[:, None] == np.arange(centres.shape[1])[:, None]) * weights[:, None]  # U x C x L
        total = shares.sum(axis=2, keepdims=True)
        means = np.matmul(shares, points) / np.maximum(total, 1e-30)
        centres = np.where(total > 0, means, centres)  # one that lost all its points stays
    return taste.astype(np.int64)


def _lengths(points: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """What `_costs` leaves out of each point, U x L, for it is the same for all centres."""
    if metric is Metric.COSINE:
        return np.zeros(points.shape[:2], np.float32)
    return np.asarray(np.einsum("uld,uld->ul", points, points), np.float32)


def _costs(points: NDArray[np.float32], centres: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """What is less the more alike, U x L x C: of one point for all centres; of several points with `_lengths`."""
    if metric is Metric.COSINE:
        unit = l2_normalize(centres.reshape(-1, centres.shape[2])).reshape(centres.shape)
        return np.asarray(-np.matmul(points, unit.transpose(0, 2, 1)), np.float32)
    squares = (centres**2).sum(axis=2)[:, None]
    return np.asarray(squares - 2 * np.matmul(points, centres.transpose(0, 2, 1)), np.float32)
