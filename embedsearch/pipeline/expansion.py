"""Alpha query expansion: a query, and the best answers to it, as one new query."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import UsageError
from embedsearch.pipeline.nearest import nearest
from embedsearch.pipeline.search import Rows, Scores, Searcher
from embedsearch.types import Metric
from embedsearch.vectors import Matrix, l2_normalize

ALPHA = 3  # of Radenović, Tolias & Chum; measured beside 1 in docs/quality.md
_BLOCK_VALUES = 2**22  # of vectors that are held at once


def require_expandable(metric: Metric, n: int) -> None:
    """Raises UsageError for an n that is no whole number from 0, and for a metric whose scores cannot weigh answers."""
    try:
        n = operator.index(n)
    except TypeError:
        raise UsageError(f"expand is {n!r}; it must be a whole number, of answers that join the query") from None
    if n < 0:
        raise UsageError(f"expand is {n}; it must be 0 (none) or more: as many answers as join the query")
    if n and metric is not Metric.COSINE:
        raise UsageError(
            f"expand weighs answers by their cosine, and scores of this index are {metric}: ask without it, or ask an "
            "index that was built with the metric cosine"
        )


def expanded(
    searcher: Searcher,
    x: Matrix,
    n: int,
    where: str | None = None,
    recall: float | None = None,
    *,
    allowed: NDArray[np.bool_] | None = None,
    own: Rows | None = None,
    group: bool = False,
) -> Matrix:
    """Queries that are each joined with the n best answers that the index finds, unit rows; for n = 0 x as it is.

    The other arguments as in `nearest`: who may not be an answer does not join. Raises UsageError for another metric
    than cosine, and what `Searcher.search` raises.
    """
    require_expandable(searcher.manifest.recipe.metric, n)
    if n == 0:
        return x
    found = nearest(searcher, x, n, where, recall, allowed=allowed, own=own, group=group)
    return joined(searcher.as_asked(x), found, searcher.store.vectors_at)


def joined(
    x: Matrix, found: Sequence[tuple[Rows, Scores]], vectors_at: Callable[[Rows], Matrix], alpha: float = ALPHA
) -> Matrix:
    """Each query plus its answers, weighted by max(score, 0)^alpha, as unit rows: alpha query expansion (Chum et al.
    2007, "Total Recall"; Radenović, Tolias & Chum 2018, "Fine-tuning CNN Image Retrieval with No Human Annotation").

    x: unit rows, float32 N x D. found: N pairs of rows and cosines; a row of -1 is none. vectors_at: float32 of rows.
    Memory: the vectors of a block of queries, never those of all.
    """
    n = max((len(rows) for rows, _ in found), default=0)
    if n == 0:
        return x
    new = np.empty_like(x)
    step = max(_BLOCK_VALUES // (n * x.shape[1]), 1)
    for first in range(0, len(x), step):
        block = x[first : first + step]
        rows = np.full((len(block), n), -1, np.int64)
        weights = np.zeros((len(block), n), np.float32)
        for query, (some, scores) in enumerate(found[first : first + step]):
            rows[query, : len(some)], weights[query, : len(some)] = some, scores
        weights = np.where(rows < 0, 0, np.maximum(weights, 0) ** np.float32(alpha))
        there, place = np.unique(np.maximum(rows, 0), return_inverse=True)
        answers = l2_normalize(vectors_at(there))[place.reshape(rows.shape)]  # Q x n x D
        new[first : first + step] = l2_normalize(block + (weights[:, None, :] @ answers)[:, 0])
    return new
