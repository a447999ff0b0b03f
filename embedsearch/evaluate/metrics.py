"""Measures of a ranking; every function states its definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def recall_with_ties(found: NDArray[np.float32], truth: NDArray[np.float32], higher_is_better: bool) -> float:
    """k-recall@k on scores: the share of the k answers that score as well as the true k-th, mean over queries.

    found, truth: float32 n x k, best first, NaN where nothing was found. Rows that tie with the k-th stand
    for one another, as in ann-benchmarks (Aumüller, Bernhardsson & Faithfull, 2020).
    """
    if found.shape != truth.shape:
        raise ValueError(f"found is {found.shape}, truth is {truth.shape}")
    sign = 1.0 if higher_is_better else -1.0
    limit = sign * truth[:, -1:].astype(np.float64)
    slack = 1e-5 * np.maximum(1.0, np.abs(limit))  # the two are summed in another order
    with np.errstate(invalid="ignore"):
        return float(np.mean(sign * found >= limit - slack))


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
