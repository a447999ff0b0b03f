"""One order from several, over the same items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from embedsearch.recommend.tally import Pool, Rows, Scores, best_of_votes
from embedsearch.recommend.variety import relevance
from embedsearch.recommend.votes import RRF_K

Fusion = Literal["rank", "score"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)


def fuse(
    pools: Sequence[Pool],
    weights: Sequence[float],
    holds: Sequence[NDArray[np.bool_]],
    *,
    how: Fusion,
    depth: int,
) -> tuple[Rows, Scores]:
    """The `depth` best of what several pools name, n_users x depth; -1 and NaN fill the end.

    pools: of the same users over the same numbering of items. weights: of each pool. holds: for each pool, bool per
    item, whether it could name it at all. "rank": the sum of weight / (60 + rank) (Cormack, Clarke & Buettcher,
    2009). "score": the sum of weight x score, scaled to 0..1 over the pool (CombSUM: Fox & Shaw, 1994; scaled as in
    Lee, 1997); an item that a pool does not name has 0. Either sum is divided by the weights of the pools that hold
    the item, so that one which lacks it counts neither for nor against.
    """
    n_users, n_items = len(pools[0].rows), len(holds[0])
    users, rows, values = [], [], []
    for pool, weight in zip(pools, weights, strict=True):
        n_ranks = pool.rows.shape[1]
        if how == "rank":
            told = np.broadcast_to(1 / (RRF_K + np.arange(1, n_ranks + 1)), pool.rows.shape)
        else:
            told = np.where(pool.rows >= 0, relevance(pool.scores), 0)
        users.append(np.repeat(np.arange(n_users), n_ranks))
        rows.append(pool.rows.ravel())
        values.append(weight * told.ravel())
    total = np.zeros(n_items)
    for weight, held in zip(weights, holds, strict=True):
        total[held] += weight
    named = np.concatenate(rows)
    shares = np.concatenate(values) / np.maximum(total, 1e-300)[named]
    whose = np.concatenate(users)
    order = np.argsort(whose, kind="stable")
    return best_of_votes(
        whose[order],
        named[order],
        shares[order],
        n_users=n_users,
        n_rows=max(n_items, 1),
        known=np.empty(0, np.int64),
        depth=depth,
        together="sum",
    )
