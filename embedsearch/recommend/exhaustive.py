"""The best rows of a matrix for many queries, by plain products.

FAISS keeps a heap a query and offers it every score. In a large batch that takes longer than the products themselves;
here a block of scores is compared with the worst that is still wanted, and only what is better is looked at again.
Rows lie in the order of their norms, the largest first: what is wanted is soon known to be good, and where no row
that is left is long enough to be better (Cauchy & Schwarz; LEMP: Teflioudi, Gemulla & Mykytiuk, SIGMOD 2015) a block
of queries is done. Learned factors differ much in norm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.recommend.tally import Rows, Scores, best_first
from embedsearch.vectors import Matrix

QUERIES, _ROWS, _FIRST_ROWS = 256, 4096, 1024  # of one block; the first one only finds out what is good
_PENDING = 4  # better ones are put in order when there are so many times as many as are wanted
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
        limit = np.full((n, 1), -np.inf, np.float32)
        held: list[tuple[Rows, Rows, Scores]] = []
        n_held, start, size = 0, 0, max(_FIRST_ROWS, k)
        # memory that is taken anew for each block is cleared anew, which takes as long as the products
        products, is_better = np.empty(n * max(_ROWS, k), np.float32), np.empty(n * max(_ROWS, k), np.bool_)
        while start < len(self._x):
            rows = self._x[start : start + size]
            block = products[: n * len(rows)].reshape(n, len(rows))
            mask = is_better[: n * len(rows)].reshape(n, len(rows))
            np.matmul(queries, rows.T, out=block)
            if among is not None:
                block[:, ~among[start : start + size]] = -np.inf
            better = _places(np.greater(block, limit, out=mask))
            owner, row = np.divmod(better, block.shape[1])
            held.append((owner, row + start, block.ravel()[better]))
            n_held += len(better)
            start, size = start + size, max(_ROWS, k)
            is_last = start >= len(self._x)
            if n_held > _PENDING * n * k or is_last:
                held = [_best(held, n, k)]
                owner, _, score = held[0]
                n_held = len(owner)
                last = np.searchsorted(owner, np.arange(n), side="right") - 1
                full = np.bincount(owner, minlength=n) == k
                limit[full, 0] = score[last[full]]
            # nothing that is left can be better than what every query has
            if not is_last and (limit[:, 0] > lengths * self._norms[start] * (1 + _ROUNDING)).all():
                break
        _, best, scores = _best(held, n, k)
        return best.reshape(n, k), scores.reshape(n, k)


def _places(mask: NDArray[np.bool_]) -> Rows:
    """Where a mask, most of which is False, is True: eight places at a time are passed over."""
    flat = mask.ravel()
    if flat.size % 8:
        return np.flatnonzero(flat)
    words = np.flatnonzero(flat.view(np.uint64))
    word, byte = np.nonzero(flat.reshape(-1, 8)[words])
    return words[word] * 8 + byte


def _best(held: list[tuple[Rows, Rows, Scores]], n: int, k: int) -> tuple[Rows, Rows, Scores]:
    """The k best of each query, by query and best first."""
    owner, rows, scores = (np.concatenate(parts) for parts in zip(*held, strict=True))
    order = best_first(owner, scores)
    owner = owner[order]
    place = np.arange(len(owner)) - np.searchsorted(owner, np.arange(n))[owner]
    kept = place < k
    return owner[kept], rows[order[kept]], scores[order[kept]]
