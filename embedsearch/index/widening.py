"""Searches under a filter that look further until looking further finds nothing better."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embedsearch.index.base import Rows, Scores

# which of the queries, how many lists, how many times the usual candidates -> scores and rows
Probe = Callable[[NDArray[np.int64], int, int], tuple[Scores, Rows]]
# which of the queries -> scores and rows, by comparing them with all that is allowed
Scan = Callable[[NDArray[np.int64]], tuple[Scores, Rows]]


def probe_until_settled(probe: Probe, scan: Scan, first: NDArray[np.int64], most: int, k: int) -> tuple[Scores, Rows]:
    """Scores and rows of the k best of each query, n x k.

    first: int64 n, the lists that each query begins with. Lists and candidates are doubled until the k best stay what
    they were. A query that would need `most` lists or more is scanned.

    Where the allowed rows are not those that lie around a query, its nearest lists say little about where the best of
    them lie: they may be anywhere, and then half of what is found in twice as many lists is new.
    """
    n = len(first)
    scores, rows = np.empty((n, k), np.float32), np.full((n, k), -1, np.int64)
    n_lists, times, waiting = first.copy(), 1, np.arange(n)
    is_settled = np.zeros(n, np.bool_)
    while len(waiting):
        for step in np.unique(n_lists[waiting]):
            those = waiting[n_lists[waiting] == step]
            if step >= most:
                scores[those], rows[those] = scan(those)
                is_settled[those] = True
                continue
            found_scores, found = probe(those, int(step), times)
            is_settled[those] = (times > 1) & (found[:, -1] >= 0) & (found == rows[those]).all(axis=1)
            scores[those], rows[those] = found_scores, found
        waiting = waiting[~is_settled[waiting]]
        n_lists[waiting] *= 2
        times *= 2
    return scores, rows
