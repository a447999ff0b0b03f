"""From the store to a FAISS index, and how well that index finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.evaluate import recall_with_ties
from embedsearch.index import Choice, VectorIndex
from embedsearch.pipeline.fit import sample_rows
from embedsearch.registry import INDEXES
from embedsearch.store import ItemStore
from embedsearch.types import Metric, Progress

_BLOCK_ROWS = 4096
_N_QUERIES = 256
_SEED = 1

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Built:
    """An index over all rows of a store; recall_at_10 is measured, or None with too few rows."""

    index: VectorIndex
    choice: Choice
    recall_at_10: float | None


def build_index(store: ItemStore, metric: Metric, choice: Choice, progress: Progress) -> Built:
    """Adds the store's vectors in row order, a block at a time; nothing is extracted again."""
    index: VectorIndex = INDEXES.get(choice.family).create(store.dim, metric, choice.build)
    if index.needs_training:
        index.train(store.vectors_at(sample_rows(len(store))))
    index.reserve(len(store))
    progress.stage(f"indexing ({choice.family})", len(store))
    for block in store.vector_blocks(_BLOCK_ROWS):
        index.add(block)
        progress.advance(len(block))
    index.complete(lambda n: None)
    return Built(index, choice, 1.0 if index.exact else _measure(index, store, metric, choice, progress))


def _measure(index: VectorIndex, store: ItemStore, metric: Metric, choice: Choice, progress: Progress) -> float | None:
    """recall@10 over seeded rows of the store as queries, each one's own row left out, against exact search."""
    n, k = len(store), 10
    if n <= k:
        return None
    rows = np.sort(np.random.default_rng(_SEED).choice(n, min(_N_QUERIES, n), replace=False))
    xq = store.vectors_at(rows)
    progress.stage("measuring recall", n)
    flat: type[VectorIndex] = INDEXES.get("flat")
    best_scores = np.empty((len(rows), 0), np.float32)
    best_rows = np.empty((len(rows), 0), np.int64)
    start = 0
    for block in store.vector_blocks(_BLOCK_ROWS):  # never a second copy of all vectors
        part = flat.create(store.dim, metric, {})
        part.train(block)
        part.add(block)
        scores, found = part.search(xq, min(k + 1, len(block)), {})
        best_scores = np.concatenate([best_scores, scores], axis=1)
        best_rows = np.concatenate([best_rows, found + start], axis=1)
        order = np.argsort(-best_scores if metric.higher_is_better else best_scores, axis=1, kind="stable")[:, : k + 1]
        best_scores = np.take_along_axis(best_scores, order, axis=1)
        best_rows = np.take_along_axis(best_rows, order, axis=1)
        start += len(block)
        progress.advance(len(block))
    found_scores, found = index.search(xq, k + 1, choice.search)
    return recall_with_ties(
        _without(found_scores, found, rows, k), _without(best_scores, best_rows, rows, k), metric.higher_is_better
    )


def _without(scores: Scores, found: Rows, own: Rows, k: int) -> Scores:
    """Scores of each query's k answers, its own row left out; NaN where there is none."""
    kept = np.full((len(own), k), np.nan, np.float32)
    for query, mine in enumerate(own):
        others = scores[query, (found[query] != mine) & (found[query] >= 0)][:k]
        kept[query, : len(others)] = others
    return kept
