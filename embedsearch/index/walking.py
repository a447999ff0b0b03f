"""Walks of FAISS's graphs where only some rows may be answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from embedsearch.index.allowed import LEAST_SHARE, SPARE, Selected
from embedsearch.index.base import Rows, Scores
from embedsearch.index.growth import MOST_IN_BEAM
from embedsearch.index.widening import Scan
from embedsearch.types import Metric

# where at most this share of the rows is allowed, they are scanned instead of walked to
SCAN_SHARE = 0.1

# how many answers -> scores and rows for all queries, whatever is allowed
Walk = Callable[[int], tuple[Scores, Rows]]


def walk_among(
    walk: Walk, scan: Scan, n_queries: int, k: int, ef_search: int, allowed: Selected, metric: Metric
) -> tuple[Scores, Rows]:
    """Scores and rows of the k best that are allowed, n_queries x k.

    As many more rows are looked at as there are fewer allowed; a query that lies elsewhere than those meets too few of
    them, and is compared with all. Of inner products queries lie far from all rows, and how many they meet says
    nothing: all are compared. (A walk of FAISS that is given a selector ends as soon as one without would, with
    whatever it has met.)
    """
    n = len(allowed.mask)
    wider = SPARE * ef_search / allowed.share
    if metric is Metric.IP or allowed.share <= SCAN_SHARE or wider > MOST_IN_BEAM:
        return scan(np.arange(n_queries))
    D, I = walk(min(int(wider), n))  # noqa: E741
    fits = allowed.mask[np.maximum(I, 0)] & (I >= 0)
    first = np.argsort(~fits, axis=1, kind="stable")[:, :k]
    D, I = np.take_along_axis(D, first, axis=1), np.take_along_axis(I, first, axis=1)  # noqa: E741
    few = np.flatnonzero(fits.sum(axis=1) < min(max(LEAST_SHARE * ef_search, k), allowed.n))
    if len(few):
        D[few], I[few] = scan(few)
    return D, I
