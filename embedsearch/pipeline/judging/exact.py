"""The exact ranking of all items for each query, a block of queries at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from embedsearch.best import QUERIES, Best
from embedsearch.evaluate.judgements import Relevance
from embedsearch.evaluate.ranking import Measures, measures, ranked_gains
from embedsearch.store import ItemStore
from embedsearch.types import Metric, Progress
from embedsearch.vectors import Matrix, l2_normalize

_BLOCK_VALUES = 2**22  # scores that are held at once, float64

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Firsts:
    """Of each query the best wrong and the best right item (rows, -1 for none), their scores in the metric's own unit,
    and the place of the right one."""

    wrong: Rows
    wrong_score: NDArray[np.float64]
    right: Rows
    right_score: NDArray[np.float64]
    place: Rows


def rank_exactly(
    store: ItemStore,
    metric: Metric,
    x: Matrix,
    own: Rows,
    relevance: Relevance,
    answers: NDArray[np.bool_],
    k: int,
    progress: Progress,
) -> tuple[Measures, Firsts]:
    """Measures over all `answers` (bool per row), of queries x, float32 m x D; own: the row each of them is, or -1.

    Scores are computed in float64 over the stored vectors. Memory: a block of queries by all items, never all by all;
    the store is read once a block.
    """
    step = max(_BLOCK_VALUES // max(len(store), 1), 1)
    progress.stage("exact rankings", len(x))
    parts: list[Measures] = []
    firsts: list[Firsts] = []
    for first in range(0, len(x), step):
        some = np.arange(first, min(first + step, len(x)))
        scores = np.concatenate(list(_scores(store, metric, x[some])), axis=1)
        grades = relevance.grades(some)
        left_out = np.broadcast_to(~answers, scores.shape).copy()
        is_own = own[some] >= 0
        left_out[np.flatnonzero(is_own), own[some][is_own]] = True
        gains = ranked_gains(scores, grades, left_out=left_out)
        parts.append(measures(gains, k))
        firsts.append(_firsts(scores, grades > 0, left_out, gains, metric))
        progress.advance(len(some))
    return _joined(Measures, parts), _joined(Firsts, firsts)


def best_exactly(
    store: ItemStore, x: Matrix, own: Rows, answers: NDArray[np.bool_], n: int, progress: Progress
) -> list[tuple[Rows, Scores]]:
    """Rows and cosines of the n best of `answers` for each query, itself left out; for what is not there, -1.

    Memory: blocks of the store by blocks of queries, and n of each query.
    """
    xq = l2_normalize(x)
    parts = [slice(first, first + QUERIES) for first in range(0, len(x), QUERIES)]
    best = [Best(len(x[part]), min(n, len(store))) for part in parts]
    start = 0
    progress.stage("answers that join the queries", len(store))
    for block in store.vector_blocks():
        rows = np.arange(start, start + len(block))
        xb = l2_normalize(block)
        for part, theirs in zip(parts, best, strict=True):
            scores = xq[part] @ xb.T
            scores[:, ~answers[rows]] = -np.inf
            here = np.flatnonzero((own[part] >= start) & (own[part] < start + len(block)))
            scores[here, own[part][here] - start] = -np.inf
            theirs.offer(scores, rows)
        start += len(block)
        progress.advance(len(block))
    return [pair for theirs in best for pair in zip(*theirs.ranked(), strict=True)]


def _scores(store: ItemStore, metric: Metric, x: Matrix) -> Iterator[NDArray[np.float64]]:
    """Higher is better: inner products, or minus the squared distance."""
    xq = (l2_normalize(x) if metric is Metric.COSINE else x).astype(np.float64)
    for block in store.vector_blocks():
        xb = (l2_normalize(block) if metric is Metric.COSINE else block).astype(np.float64)
        products = xq @ xb.T
        if metric is Metric.L2:
            products = 2 * products - (xb**2).sum(axis=1)[None, :] - (xq**2).sum(axis=1)[:, None]
        yield products


def _firsts(
    scores: NDArray[np.float64],
    relevant: NDArray[np.bool_],
    left_out: NDArray[np.bool_],
    gains: NDArray[np.float64],
    metric: Metric,
) -> Firsts:
    sign = 1 if metric.higher_is_better else -1
    at = np.arange(len(scores))

    def best(among: NDArray[np.bool_]) -> tuple[Rows, NDArray[np.float64]]:
        rows = np.where(among, scores, -np.inf).argmax(axis=1)
        return np.where(among.any(axis=1), rows, -1), sign * scores[at, rows]

    wrong, wrong_score = best(~relevant & ~left_out)
    right, right_score = best(relevant & ~left_out)
    return Firsts(wrong, wrong_score, right, right_score, (gains > 0).argmax(axis=1) + 1)


def _joined(kind: type[T], parts: list[T]) -> T:
    names = kind.__slots__  # type: ignore[attr-defined]
    return kind(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
