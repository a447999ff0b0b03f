"""The best rows of a matrix for many queries, by plain products.

FAISS keeps a heap a query and offers it every score. In a large batch that takes longer than the products themselves;
here a block of scores is compared with the worst that is still wanted, and only what is better is looked at again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.recommend.tally import Rows, Scores, best_first
from embedsearch.vectors import Matrix

_QUERIES, _ROWS, _FIRST_ROWS = 256, 4096, 1024  # of one block; the first one only finds out what is good
_PENDING = 4  # better ones are put in order when there are so many times as many as are wanted


def best_products(queries: Matrix, x: Matrix, k: int, allowed: NDArray[np.bool_] | None = None) -> tuple[Rows, Scores]:
    """Rows of x (N x D) with the largest inner products with each query (n x D), and these: both n x k, best first,
    exact up to rounding. k: at most N, and at most the number of rows that are allowed (bool N)."""
    found = np.empty((len(queries), k), np.int64)
    scores = np.empty((len(queries), k), np.float32)
    for first in range(0, len(queries), _QUERIES):
        some = slice(first, first + _QUERIES)
        found[some], scores[some] = _block(queries[some], x, k, allowed)
    return found, scores


def _block(queries: Matrix, x: Matrix, k: int, allowed: NDArray[np.bool_] | None) -> tuple[Rows, Scores]:
    n = len(queries)
    limit = np.full((n, 1), -np.inf, np.float32)
    held: list[tuple[Rows, Rows, Scores]] = []
    n_held, start, size = 0, 0, max(_FIRST_ROWS, k)
    while start < len(x):
        block = queries @ x[start : start + size].T
        if allowed is not None:
            block[:, ~allowed[start : start + size]] = -np.inf
        better = _places(block > limit)
        owner, row = np.divmod(better, block.shape[1])
        held.append((owner, row + start, block.ravel()[better]))
        n_held += len(better)
        start, size = start + size, max(_ROWS, k)
        if n_held > _PENDING * n * k or start >= len(x):
            held = [_best(held, n, k)]
            owner, _, score = held[0]
            n_held = len(owner)
            last = np.searchsorted(owner, np.arange(n), side="right") - 1
            full = np.bincount(owner, minlength=n) == k
            limit[full, 0] = score[last[full]]
    _, rows, products = held[0]
    return rows.reshape(n, k), products.reshape(n, k)


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
