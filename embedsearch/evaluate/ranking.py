"""Measures of one ranking a query, of a matrix of them at once; every function states its definition.

A ranking is a row of gains: the grade of what stands at each place, best place first, 0 where it is not relevant. Rows
that end early are filled up with 0. A query that has nothing relevant has no such measure: it is NaN there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
RESOLUTION = 2.0**23  # steps between 0 and the largest score of a row: what float32 vectors can tell apart


@dataclass(frozen=True, slots=True)
class Measures:
    """One value a query, float64 n each; NaN where a query has nothing relevant."""

    precision_at_1: Floats
    recall_at_k: Floats
    average_precision: Floats
    ndcg_at_k: Floats
    reciprocal_rank: Floats


def ranked_gains(scores: ArrayLike, grades: ArrayLike, *, left_out: NDArray[np.bool_] | None = None) -> Floats:
    """The grades of each row in the order of its scores, float64 n x m.

    scores: n x m, higher is better. grades: n x m, bool or numbers; 0 or less is not relevant. left_out: bool n x m,
    what is no answer (the query itself); it goes to the end with gain 0.

    Equal scores never flatter: among them what is less relevant comes first. Scores are equal where they differ by
    less than float32 vectors can tell, 2 ** -23 of the largest of their row. So a network that gives the same vector
    for everything gets the worst figures, not those of the order of the files.
    """
    s = np.asarray(scores, np.float64)
    g = np.maximum(np.asarray(grades, np.float64), 0.0)
    if s.ndim != 2 or s.shape != g.shape:
        raise ValueError(f"scores are {s.shape}, grades are {g.shape}; both must be n x m")
    if s.size == 0:
        return g
    if not np.isfinite(s).all():
        raise ValueError("scores hold NaN or infinity")
    if left_out is not None:
        g = np.where(left_out, 0.0, g)
    relevant = g > 0
    levels = np.append(0.0, np.unique(g[relevant]))
    level = np.zeros(g.shape, np.int64)
    level[relevant] = np.searchsorted(levels, g[relevant])
    scale = np.abs(s).max(axis=1, keepdims=True)
    steps = np.rint(s / np.where(scale > 0, scale, 1.0) * RESOLUTION).astype(np.int64)
    if left_out is not None:
        steps[left_out] = -int(RESOLUTION) - 1
    # one number holds both, so that what is sorted needs no indices: the score first, then the grade, lowest first
    keys = np.sort(-steps * len(levels) + level, axis=1)
    return np.asarray(levels[keys % len(levels)], np.float64)


def measures(
    gains: ArrayLike, k: int, *, n_relevant: ArrayLike | None = None, ideal: ArrayLike | None = None
) -> Measures:
    """All measures of rankings, gains n x m; see each. Average precision and reciprocal rank look at all m places."""
    n = _counted(gains, n_relevant, ideal)
    return Measures(
        precision_at(gains, 1, n_relevant=n),
        recall_at(gains, k, n_relevant=n),
        average_precision(gains, n_relevant=n),
        ndcg_at(gains, k, n_relevant=n, ideal=ideal),
        reciprocal_rank(gains, n_relevant=n),
    )


def precision_at(gains: ArrayLike, k: int, *, n_relevant: ArrayLike | None = None) -> Floats:
    """P@k: relevant among the first k / k, also where fewer than k came. P@1 is the share of first answers that are
    right. gains: n x m. n_relevant: int n, what there is to be found at all; by default, what the ranking holds."""
    g = _matrix(gains)
    found = (g[:, : _positive(k)] > 0).sum(axis=1)
    return _of_answerable(found / k, _counted(g, n_relevant))


def recall_at(gains: ArrayLike, k: int, *, n_relevant: ArrayLike | None = None) -> Floats:
    """recall@k: relevant among the first k / all relevant ones. It cannot reach 1 where more than k are relevant.

    This is recall of what is right, not `recall_at_k`, which asks whether an index finds the exact neighbours.
    """
    g, n = _matrix(gains), _counted(gains, n_relevant)
    found = (g[:, : _positive(k)] > 0).sum(axis=1)
    return _of_answerable(found / np.maximum(n, 1), n)


def average_precision(gains: ArrayLike, *, n_relevant: ArrayLike | None = None) -> Floats:
    """AP: the mean, over all relevant items, of the precision at their place; 0 for those that the ranking lacks
    (without interpolation; Buckley & Voorhees, SIGIR 2000). Its mean over queries is mAP."""
    g, n = _matrix(gains), _counted(gains, n_relevant)
    relevant = g > 0
    precision = np.cumsum(relevant, axis=1) / np.arange(1, g.shape[1] + 1)
    return _of_answerable((precision * relevant).sum(axis=1) / np.maximum(n, 1), n)


def ndcg_at(gains: ArrayLike, k: int, *, n_relevant: ArrayLike | None = None, ideal: ArrayLike | None = None) -> Floats:
    """nDCG@k: the sum of gain / log2(place + 1) over the first k, divided by that of the best order there could be
    (Järvelin & Kekäläinen, 2002; gain = grade, not 2 ** grade - 1).

    ideal: n x j, the grades of all that is relevant to each query, in any order, filled up with 0. By default those
    of the ranking itself; with n_relevant alone, as many as that with grade 1.
    """
    g, n = _matrix(gains), _counted(gains, n_relevant, ideal)
    if ideal is not None:
        best = np.sort(np.maximum(np.asarray(ideal, np.float64), 0.0), axis=1)[:, ::-1][:, : _positive(k)]
    elif n_relevant is not None:
        if not np.isin(g, (0.0, 1.0)).all():
            best = -np.sort(-g, axis=1)[:, : _positive(k)]
            if ((g > 0).sum(axis=1) < n).any():
                raise ValueError("graded rankings lack some of what is relevant; give ideal, its grades")
        else:
            best = (np.arange(_positive(k)) < n[:, None]).astype(np.float64)
    else:
        best = -np.sort(-g, axis=1)[:, : _positive(k)]
    total = _discounted(best)
    return _of_answerable(_discounted(g[:, : _positive(k)]) / np.where(total > 0, total, 1.0), n)


def reciprocal_rank(gains: ArrayLike, *, n_relevant: ArrayLike | None = None) -> Floats:
    """RR: 1 / the place of the first relevant item, 0 where there is none in the ranking. Its mean is MRR."""
    g = _matrix(gains)
    n = _counted(g, n_relevant)
    relevant = g > 0
    if not g.shape[1]:
        return _of_answerable(np.zeros(len(g)), n)
    return _of_answerable(np.where(relevant.any(axis=1), 1 / (relevant.argmax(axis=1) + 1), 0.0), n)


def _matrix(gains: ArrayLike) -> Floats:
    g = np.asarray(gains, np.float64)
    if g.ndim != 2:
        raise ValueError(f"gains are {g.shape}; they must be n x m, a row a query")
    return np.maximum(g, 0.0)


def _counted(gains: ArrayLike, n_relevant: ArrayLike | None, ideal: ArrayLike | None = None) -> NDArray[np.int64]:
    """How many are relevant to each query, int n."""
    g = _matrix(gains)
    held = (g > 0).sum(axis=1)
    n: NDArray[Any]
    if n_relevant is None:
        n = held if ideal is None else (np.asarray(ideal) > 0).sum(axis=1)
    else:
        n = np.asarray(n_relevant, np.int64)
    if n.shape != held.shape or (n < held).any():
        raise ValueError(f"n_relevant is {n.shape} for {held.shape} rankings, or fewer than a ranking holds")
    return np.asarray(n, np.int64)


def _discounted(gains: Floats) -> Floats:
    return np.asarray(gains @ (1 / np.log2(np.arange(2, gains.shape[1] + 2))), np.float64)


def _of_answerable(values: Any, n_relevant: NDArray[Any]) -> Floats:
    return np.asarray(np.where(n_relevant > 0, values, np.nan), np.float64)


def _positive(k: int) -> int:
    if k < 1:
        raise ValueError(f"k is {k}; it must be 1 or more")
    return k
