"""All items that are near enough."""

from __future__ import annotations

import numpy as np

from embedsearch.index.flat import FlatIndex
from embedsearch.pipeline.search import Rows, Scores, Searcher
from embedsearch.vectors import Matrix

_BLOCK_VALUES = 2**22  # of vectors that are read at a time


def range_search(
    searcher: Searcher, x: Matrix, limit: float | None, where: str | None = None
) -> list[tuple[Rows, Scores]]:
    """Rows int64 and scores float32 of all items that score `limit` or better, for each query, best first.

    limit: None for all items, best first. where: see `Searcher.search`. The vectors of the store are read and compared
    one by one, a block at a time: exact for every family, since what a structure has not looked at cannot be known to
    be too far.
    """
    x = searcher.as_asked(x)
    allowed = None if where is None else searcher.allowed(where)
    store, metric = searcher.store, searcher.manifest.recipe.metric
    parts: list[list[tuple[Rows, Scores]]] = [[] for _ in x]
    start = 0
    for block in store.vector_blocks(max(_BLOCK_VALUES // store.dim, 256)):
        rows = np.arange(start, start + len(block))
        start += len(block)
        if allowed is not None:
            rows, block = rows[allowed[rows]], block[allowed[rows]]
        if len(x) == 0 or len(rows) == 0:
            continue
        flat = FlatIndex.create(store.dim, metric, {})
        flat.train(block)
        flat.add(block)
        for part, (scores, found) in zip(parts, flat.range_search(x, limit), strict=True):
            part.append((rows[found], scores))
    return [_best_first(part, metric.higher_is_better) for part in parts]


def _best_first(parts: list[tuple[Rows, Scores]], higher: bool) -> tuple[Rows, Scores]:
    rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in parts)])
    scores = np.concatenate([np.empty(0, np.float32), *(scores for _, scores in parts)])
    order = np.argsort(-scores if higher else scores, kind="stable")
    return rows[order], scores[order]
