"""The best answers to each query, the item that asks left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.pipeline.group import best_of_each_text
from embedsearch.pipeline.search import Rows, Scores, Searcher
from embedsearch.vectors import Matrix


def nearest(
    searcher: Searcher,
    x: Matrix,
    k: int,
    where: str | None = None,
    recall: float | None = None,
    *,
    allowed: NDArray[np.bool_] | None = None,
    own: Rows | None = None,
    group: bool = False,
) -> list[tuple[Rows, Scores]]:
    """Rows and scores of the k best, for each query, as `Searcher.search` finds them.

    own: the row that each query is (-1 for none), which is left out; in a group its whole text is. group: the best
    chunk of each text only.
    """
    if group:
        return best_of_each_text(searcher, x, k, where, own, recall)
    n_own = 0 if own is None or (own < 0).all() else 1
    rows, scores = searcher.search(x, k + n_own, where, recall, allowed=allowed, n_extra=n_own)
    if own is None or not n_own:
        return list(zip(rows, scores, strict=True))
    # among exact duplicates the item itself may not be found; then the last one gives way
    others = [np.flatnonzero((found != mine) | (found < 0))[:k] for mine, found in zip(own, rows, strict=True)]
    return [(found[kept], score[kept]) for kept, found, score in zip(others, rows, scores, strict=True)]
