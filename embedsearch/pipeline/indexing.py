"""From the store to a FAISS index, and how well that index finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.evaluate import recall_at_k
from embedsearch.index import Choice, VectorIndex
from embedsearch.registry import INDEXES
from embedsearch.store import ItemStore
from embedsearch.types import Metric, Progress

_BLOCK_ROWS = 16384
_N_QUERIES = 256
_SEED = 1

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Built:
    """An index over all rows of a store; recall_at_10 is measured, or None with too few rows."""

    index: VectorIndex
    choice: Choice
    recall_at_10: float | None


def build_index(store: ItemStore, metric: Metric, choice: Choice, progress: Progress) -> Built:
    """Adds the store's vectors in row order, a block at a time; nothing is extracted again."""
    index: VectorIndex = INDEXES.get(choice.family).create(store.dim, metric, choice.build)
    index.reserve(len(store))
    progress.stage(f"indexing ({choice.family})", len(store))
    for block in store.vector_blocks(_BLOCK_ROWS):
        index.add(block)
        progress.advance(len(block))
    return Built(index, choice, 1.0 if index.exact else _measure(index, store, metric, choice, progress))


def _measure(index: VectorIndex, store: ItemStore, metric: Metric, choice: Choice, progress: Progress) -> float | None:
    """recall@10 over seeded rows of the store as queries, each one's own row left out, against exact search."""
    n, k = len(store), 10
    if n <= k:
        return None
    rows = np.sort(np.random.default_rng(_SEED).choice(n, min(_N_QUERIES, n), replace=False))
    xq = store.vectors_at(rows)
    progress.stage("measuring recall", n)
    exact: VectorIndex = INDEXES.get("flat").create(store.dim, metric, {})
    best_scores = np.empty((len(rows), 0), np.float32)
    best_rows = np.empty((len(rows), 0), np.int64)
    start = 0
    for block in store.vector_blocks(_BLOCK_ROWS):  # never a second copy of all vectors
        part: VectorIndex = type(exact).create(store.dim, metric, {})
        part.add(block)
        scores, found = part.search(xq, min(k + 1, len(block)), {})
        best_scores = np.concatenate([best_scores, scores], axis=1)
        best_rows = np.concatenate([best_rows, found + start], axis=1)
        order = np.argsort(-best_scores if metric.higher_is_better else best_scores, axis=1, kind="stable")[:, : k + 1]
        best_scores = np.take_along_axis(best_scores, order, axis=1)
        best_rows = np.take_along_axis(best_rows, order, axis=1)
        start += len(block)
        progress.advance(len(block))
    _, found = index.search(xq, k + 1, choice.search)
    return recall_at_k(_without(found, rows, k), _without(best_rows, rows, k))


def _without(found: Rows, own: Rows, k: int) -> Rows:
    """Each query's own row taken out of its answers, k left."""
    kept = [[row for row in answers if row != mine][:k] for answers, mine in zip(found, own, strict=True)]
    return np.array([answers + [-1] * (k - len(answers)) for answers in kept], np.int64)
