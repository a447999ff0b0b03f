"""Measures of a ranking; every function states its definition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def recall_at_k(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """k-recall@k: the share of the true k nearest rows that are among the k found, mean over queries.

    found, truth: int64 n x k rows; -1 in `found` counts as not found.
    """
    if found.shape != truth.shape:
        raise ValueError(f"found is {found.shape}, truth is {truth.shape}")
    if found.size == 0:
        return float("nan")
    shared = [np.intersect1d(f[f >= 0], t).size for f, t in zip(found, truth, strict=True)]
    return float(np.mean(shared) / truth.shape[1])


def recall_with_ties(
    found: NDArray[np.int64],
    truth: NDArray[np.int64],
    truth_scores: NDArray[np.float32],
    higher_is_better: bool,
    score_of: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]] | None = None,
) -> NDArray[np.float64]:
    """k-recall@k of each query: the share of the k found rows that score as well as the true k-th.

    found: int64 n x k, -1 where nothing was found. truth, truth_scores: the best m >= k rows and their exact scores,
    both n x m, best first; rows beyond them count as wrong. Rows that tie with the k-th stand for one another, as in
    ann-benchmarks (Aumüller, Bernhardsson & Faithfull, 2020). score_of: exact scores of rows (int64 p) for queries
    (int64 p, counted here), asked where more rows tie with the k-th than the m best hold; without it those count as
    wrong.
    """
    n, k = found.shape
    if truth.shape != truth_scores.shape or truth.shape[0] != n or truth.shape[1] < k:
        raise ValueError(f"found is {found.shape}, truth is {truth.shape} with scores {truth_scores.shape}")
    if k == 0:
        return np.full(n, np.nan)
    cost = (-truth_scores if higher_is_better else truth_scores).astype(np.float64)
    limit = cost[:, k - 1 : k]
    # sums of the same in another order differ so much
    limit += 1e-5 * np.abs(cost[:, :k]).max(axis=1, keepdims=True)
    right = (found[:, :, None] == truth[:, None, :]) & (cost <= limit)[:, None, :] & (found >= 0)[:, :, None]
    is_right = right.any(axis=2)
    if score_of is not None:
        query, place = np.nonzero(~is_right & (found >= 0) & (cost[:, -1:] <= limit))
        scores = score_of(query, found[query, place]).astype(np.float64)
        is_right[query, place] = (-scores if higher_is_better else scores) <= limit[query, 0]
    return np.asarray(is_right.mean(axis=1), np.float64)


def mean_with_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """The mean of shares and its 95 % interval, by the normal approximation; NaN for no values.

    The deviation is that of the values and one more that is 0: few values that are all 1 prove little.
    """
    if len(values) == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(values.mean())
    half = 1.96 * float(np.append(values, 0.0).std(ddof=1)) / len(values) ** 0.5
    return mean, max(mean - half, 0.0), min(mean + half, 1.0)


def ndcg_at_k(ranked: Sequence[str], grades: Mapping[str, float], k: int) -> float:
    """Normalised discounted cumulative gain of one query, Järvelin & Kekäläinen (2002), gain = grade,
    discount log2(rank + 1); ids without a grade have gain 0. NaN when nothing is relevant.
    """
    ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:k]
    if not ideal:
        return float("nan")
    gains = [max(grades.get(item, 0.0), 0.0) for item in ranked[:k]]
    return _dcg(gains) / _dcg(ideal)


def _dcg(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(rank + 1) for rank, gain in enumerate(gains, start=1)))
