"""Queries of a store's own, and what exact search answers to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedsearch.best import QUERIES, Best
from embedsearch.evaluate import recall_with_ties
from embedsearch.index.flat import FlatIndex
from embedsearch.store import ItemStore
from embedsearch.types import Metric, Progress
from embedsearch.vectors import Matrix

N_QUERIES = 2000
_BLOCK_VALUES = 2**22  # of vectors that are read at a time
_ROWS = 2048  # that are compared at a time: few, so that it is soon known what is good
_SEED = 1

Rows = NDArray[np.int64]


def query_rows(n: int) -> Rows:
    """Rows that are queries: at most N_QUERIES, and at most a fifth of n, drawn with a seed, in no order."""
    return np.random.default_rng(_SEED).choice(n, min(N_QUERIES, -(-n // 5)), replace=False).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Truth:
    """own: int64 n, the row each query is. xq: float32 n x D. rows, scores: its best m others, exact, n x m.
    vectors_at: the stored vectors of rows."""

    own: Rows
    xq: Matrix
    rows: Rows
    scores: NDArray[np.float32]
    metric: Metric
    vectors_at: Callable[[Rows], Matrix]

    def part(self, first: int, last: int) -> Truth:
        cut = slice(first, last)
        return replace(self, own=self.own[cut], xq=self.xq[cut], rows=self.rows[cut], scores=self.scores[cut])

    def recall_of(self, found: Rows) -> NDArray[np.float64]:
        """recall@k of each query. found: int64 n x k, -1 where nothing was found."""
        return recall_with_ties(found, self.rows, self.scores, self.metric.higher_is_better, self._score_of)

    def with_one_another(self) -> Truth:
        """The same where the queries are answers to each other as well: not to themselves."""
        higher = self.metric.higher_is_better
        flat = FlatIndex.create(self.xq.shape[1], self.metric, {})
        flat.train(self.xq)
        flat.add(self.xq)
        depth = self.rows.shape[1]
        scores, found = flat.search(self.xq, min(depth + 1, len(self)), {})
        scores[found == np.arange(len(self))[:, None]] = -np.inf if higher else np.inf
        scores, rows = _merged((self.scores, scores), (self.rows, self.own[found]), depth, higher)
        return replace(self, rows=rows, scores=scores)

    def _score_of(self, query: Rows, row: Rows) -> NDArray[np.float32]:
        rows, place = np.unique(row, return_inverse=True)
        if len(rows) == 0:
            return np.empty(0, np.float32)
        x, xq = self.vectors_at(rows)[place], self.xq[query]
        scores: NDArray[np.float32] = ((x - xq) ** 2 if self.metric is Metric.L2 else x * xq).sum(axis=1)
        return scores

    def __len__(self) -> int:
        return len(self.own)


def exact_truth(store: ItemStore, own: Rows, depth: int, metric: Metric, progress: Progress, *, apart: bool) -> Truth:
    """The best `depth` (at most all) others of each of the rows `own`, a block of the store at a time.

    apart: none of `own` is an answer to any other.
    """
    xq = store.vectors_at(own)
    n = len(store)
    held_out = np.zeros(n, np.bool_)
    held_out[own] = apart
    depth = min(depth, n - (len(own) if apart else 1))
    # under l2 by products as well, |x - q|² being |x|² - 2 q·x + |q|²: about the queries' mean, for far from the
    # origin nothing but rounding would be left of that
    centre = xq.mean(axis=0) if metric is Metric.L2 and len(xq) else np.zeros(store.dim, np.float32)
    asked = xq - centre
    parts = [slice(first, first + QUERIES) for first in range(0, len(own), QUERIES)]
    best = [Best(len(own[part]), depth) for part in parts]
    start = 0
    progress.stage("exact answers to measure by", n)
    for block in _few_at_a_time(store.vector_blocks(max(_BLOCK_VALUES // store.dim, 256))):
        rows = np.arange(start, start + len(block))
        block = block - centre if metric is Metric.L2 else block
        shifts = (block**2).sum(axis=1) / 2 if metric is Metric.L2 else None
        for part, theirs in zip(parts, best, strict=True):
            scores = asked[part] @ block.T
            if shifts is not None:
                scores -= shifts
            scores[:, held_out[rows]] = -np.inf
            here = np.flatnonzero((own[part] >= start) & (own[part] < start + len(block)))
            scores[here, own[part][here] - start] = -np.inf
            theirs.offer(scores, rows)
        start += len(block)
        progress.advance(len(block))
    ranked = [theirs.ranked() for theirs in best]
    found = np.concatenate([rows for rows, _ in ranked]) if ranked else np.empty((0, depth), np.int64)
    scores = np.concatenate([scores for _, scores in ranked]) if ranked else np.empty((0, depth), np.float32)
    if metric is Metric.L2:
        scores = np.maximum((asked**2).sum(axis=1, keepdims=True) - 2 * scores, 0)
    return Truth(own, xq, found, scores, metric, store.vectors_at)


def _few_at_a_time(blocks: Iterable[Matrix]) -> Iterator[Matrix]:
    for block in blocks:
        for first in range(0, len(block), _ROWS):
            yield block[first : first + _ROWS]


def _merged(
    scores: Sequence[NDArray[np.float32]], rows: Sequence[Rows], depth: int, higher: bool
) -> tuple[NDArray[np.float32], Rows]:
    """The best `depth` of several answers to each query."""
    all_scores, all_rows = np.concatenate(scores, axis=1), np.concatenate(rows, axis=1)
    best = np.argsort(-all_scores if higher else all_scores, axis=1, kind="stable")[:, :depth]
    return np.take_along_axis(all_scores, best, axis=1), np.take_along_axis(all_rows, best, axis=1)
