"""One order from several, over the same items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from embedsearch.best import Rows, Scores
from embedsearch.recommend.tally import Pool, best_of_votes
from embedsearch.recommend.variety import relevance

Fusion = Literal["rank", "score"]
RRF_K = 60
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)


def fuse(
    pools: Sequence[Pool], weights: Sequence[float], n_items: int, *, how: Fusion, depth: int
) -> tuple[Rows, Scores]:
    """The `depth` best of what several pools name, n_users x depth; -1 and NaN fill the end.

    pools: of the same users over the same numbering of items. weights: of each pool. "rank": the sum of weight / (60 +
    rank) (Cormack, Clarke & Buettcher, SIGIR 2009). "score": the sum of weight x score, scaled to 0..1 over each pool
    (CombSUM: Fox & Shaw, TREC-2 1994; scaled as in Lee, SIGIR 1997). An item that a pool does not name gets 0 from it,
    also where the pool could not know it: taken as an average of the others, items that a weak pool alone holds would
    come first.
    """
    n_users = len(pools[0].rows)
    users, rows, values = [], [], []
    for pool, weight in zip(pools, weights, strict=True):
        n_ranks = pool.rows.shape[1]
        if how == "rank":
            told = np.broadcast_to(1 / (RRF_K + np.arange(1, n_ranks + 1)), pool.rows.shape)
        else:
            told = np.where(pool.rows >= 0, relevance(pool.scores), 0)
        users.append(np.repeat(np.arange(n_users), n_ranks))
        rows.append(pool.rows.ravel())
        values.append(weight / sum(weights) * told.ravel())
    whose = np.concatenate(users)
    order = np.argsort(whose, kind="stable")
    return best_of_votes(
        whose[order],
        np.concatenate(rows)[order],
        np.concatenate(values)[order],
        n_users=n_users,
        n_rows=max(n_items, 1),
        known=np.empty(0, np.int64),
        depth=depth,
        together="sum",
    )
