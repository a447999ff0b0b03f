"""What the index itself finds for the queries, measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.evaluate.judgements import Relevance
from embedsearch.evaluate.ranking import Floats, ndcg_at, precision_at, ranked_gains, recall_at
from embedsearch.pipeline.search import Rows, Searcher
from embedsearch.vectors import Matrix

_BLOCK_VALUES = 2**22


def rank_found(
    searcher: Searcher, x: Matrix, own: Rows, relevance: Relevance, answers: NDArray[np.bool_], k: int
) -> dict[str, Floats]:
    """P@1, recall@k and nDCG@k of the first k that the index finds among `answers`, the query itself left out.

    Ties among them are broken as everywhere, for the worse.
    """
    extra = 1 if (own >= 0).any() else 0
    rows, scores = searcher.search(x, k + extra, allowed=None if answers.all() else answers)
    higher = searcher.manifest.recipe.metric.higher_is_better
    signed = np.where(rows < 0, 0.0, scores if higher else -scores)
    left_out = (rows < 0) | (rows == own[:, None])
    grades = np.zeros(rows.shape)
    step = max(_BLOCK_VALUES // max(len(answers), 1), 1)
    for first in range(0, len(x), step):
        some = np.arange(first, min(first + step, len(x)))
        grades[some] = np.take_along_axis(relevance.grades(some), np.maximum(rows[some], 0), axis=1)
    gains = ranked_gains(signed, grades, left_out=left_out)[:, :k]
    n = relevance.n_relevant()
    return {
        "P@1": precision_at(gains, 1, n_relevant=n),
        f"recall@{k}": recall_at(gains, k, n_relevant=n),
        f"nDCG@{k}": ndcg_at(gains, k, n_relevant=n, ideal=relevance.ideal(k)),
    }
