"""The best rows of a matrix for many queries, by plain products.

Rows lie in the order of their norms, the largest first: what is wanted is soon known to be good, and where no row that
is left is long enough to be better (Cauchy & Schwarz; LEMP: Teflioudi, Gemulla & Mykytiuk, SIGMOD 2015) a block of
queries is done. Learned factors differ much in norm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.best import QUERIES, Best, Rows, Scores
from embedsearch.vectors import Matrix

_ROWS, _FIRST_ROWS = 4096, 1024  # of one block; the first one only finds out what is good
_ROUNDING = 1e-5  # of a product of norms


class HeldVectors:
    """A matrix, float32 N x D, held in the order of its norms."""

    def __init__(self, x: Matrix) -> None:
        norms = np.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64))
        self._row_at = np.argsort(-norms, kind="stable")
        self._place_of = np.empty(len(x), np.int64)
        self._place_of[self._row_at] = np.arange(len(x))
        self._x = x[self._row_at]
        self._norms = norms[self._row_at]

    def at(self, rows: Rows) -> Matrix:
        """Vectors of rows, float32 len(rows) x D."""
        return self._x[self._place_of[rows]]

    def best(self, queries: Matrix, k: int, allowed: NDArray[np.bool_] | None = None) -> tuple[Rows, Scores]:
        """Rows with the largest inner products with each query (n x D), and these: both n x k, best first, exact up to
        rounding. k: at most N, and at most the number of rows that are allowed (bool N)."""
        found = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        among = None if allowed is None else allowed[self._row_at]
        for first in range(0, len(queries), QUERIES):
            some = slice(first, first + QUERIES)
            places, scores[some] = self._block(queries[some], k, among)
            found[some] = self._row_at[places]
        return found, scores

    def _block(self, queries: Matrix, k: int, among: NDArray[np.bool_] | None) -> tuple[Rows, Scores]:
        n = len(queries)
        lengths = np.sqrt(np.einsum("nd,nd->n", queries, queries, dtype=np.float64))
        best = Best(n, k)
        start, size = 0, max(_FIRST_ROWS, k)
        # memory that is taken anew for each block is cleared anew, which takes as long as the products
        products = np.empty(n * max(_ROWS, k), np.float32)
        while start < len(self._x):
            rows = self._x[start : start + size]
            block = products[: n * len(rows)].reshape(n, len(rows))
            np.matmul(queries, rows.T, out=block)
            if among is not None:
                block[:, ~among[start : start + size]] = -np.inf
            best.offer(block, np.arange(start, start + len(rows)))
            start, size = start + size, max(_ROWS, k)
            # nothing that is left can be better than what every query has
            left = self._norms[start] if start < len(self._x) else 0.0
            if (best.limit[:, 0] > lengths * left * (1 + _ROUNDING)).all():
                break
        return best.ranked()
