"""One index, as a recommender asks it."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from embedsearch.best import QUERIES, Rows
from embedsearch.index.threads import in_slices, n_threads
from embedsearch.pipeline.recommend.neighbours import NeighbourLists
from embedsearch.pipeline.recommend.saved import SavedLists
from embedsearch.pipeline.search import Searcher
from embedsearch.recommend.exhaustive import HeldVectors
from embedsearch.recommend.votes import Values, likeness
from embedsearch.types import Metric
from embedsearch.vectors import Matrix, l2_normalize, require_finite

# up to so many values all vectors are held in memory (256 MiB); of more, those that are needed are read from the store
HELD_VALUES = 2**26
_LARGE_BATCH = 64  # queries
_BLAS = ThreadpoolController()


class Part:
    """One generation of an index: its vectors, what is near a vector, and what is near its own rows.

    Inputs that are not in the index are numbered from len(part) on, in the order of `extra` (float32 n x D), which
    every call is given. Answers are rows (int64, -1 at the end where there are fewer) and their likeness (float64, 0
    there), best first.
    """

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher
        self.metric: Metric = searcher.manifest.recipe.metric
        self.n = len(searcher.store)
        self.lists = NeighbourLists(self.n, self._search, lambda: SavedLists.open(searcher))
        self._by_products = searcher.index.exact and self.metric is not Metric.L2
        self._lock = threading.Lock()
        self._held: HeldVectors | None = None

    def __len__(self) -> int:
        return self.n

    def vectors(self, rows: Rows) -> Matrix:
        """Vectors of rows, float32 len(rows) x D, as the metric compares them: of unit length under cosine."""
        held = self._held_vectors()
        if held is not None:
            return held.at(rows)
        return self._comparable(self.searcher.store.vectors_at(rows))

    def _held_vectors(self) -> HeldVectors | None:
        """All vectors, where they are few enough to be held."""
        store = self.searcher.store
        if self._held is None and 0 < self.n * store.dim <= HELD_VALUES:
            with self._lock:
                if self._held is None:
                    self._held = HeldVectors(self._comparable(np.concatenate(list(store.vector_blocks()))))
        return self._held

    def anchors(self, numbers: Rows, extra: Matrix) -> Matrix:
        """Vectors of rows and of inputs that are not in the index."""
        if not len(extra):
            return self.vectors(numbers)
        found = np.empty((len(numbers), self.searcher.store.dim), np.float32)
        own = numbers < self.n
        found[own] = self.vectors(numbers[own])
        found[~own] = self._comparable(extra)[numbers[~own] - self.n]
        return found

    def _comparable(self, x: Matrix) -> Matrix:
        return l2_normalize(x) if self.metric is Metric.COSINE else x

    def search(self, x: Matrix, depth: int, allowed: NDArray[np.bool_] | None) -> tuple[Rows, Values]:
        """The `depth` rows most like each vector."""
        return self._told(*self._search(x, depth, allowed))

    def _search(self, x: Matrix, depth: int, allowed: NDArray[np.bool_] | None) -> tuple[Rows, NDArray[np.float32]]:
        """As `Searcher.search`; where that is exact, a large batch is answered by plain products, which is faster."""
        held = self._held_vectors() if self._by_products and len(x) >= _LARGE_BATCH else None
        if held is None or not depth:
            return self.searcher.search(x, depth, allowed=allowed)
        depth = min(depth, self.n if allowed is None else int(allowed.sum()))
        found = np.empty((len(x), depth), np.int64)
        scores = np.empty((len(x), depth), np.float32)
        if not depth:
            return found, scores
        require_finite(x)
        x = self._comparable(x)

        def answer(first: int, last: int) -> None:
            found[first:last], scores[first:last] = held.best(x[first:last], depth, allowed)

        threads = n_threads()  # asked now: FAISS's number may be that of a BLAS that is limited
        with _BLAS.limit(limits=1, user_api="blas"):  # each thread has products of its own; those of BLAS would spin
            in_slices(answer, len(x), least=_even_share(len(x), threads), threads=threads)
        return found, scores

    def neighbours(
        self, numbers: Rows, extra: Matrix, depth: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[Rows, Values]:
        """The `depth` rows most like each of some rows and inputs, a row itself left out."""
        if not len(extra):
            return self._told(*self.lists.of(numbers, self.vectors, depth, allowed))
        own = numbers < self.n
        rows = np.full((len(numbers), depth), -1, np.int64)
        scores = np.full((len(numbers), depth), np.nan, np.float32)
        for which, (found, told) in (
            (own, self.lists.of(numbers[own], self.vectors, depth, allowed)),
            (~own, self._search(self.anchors(numbers[~own], extra), depth, allowed)),
        ):
            rows[which, : found.shape[1]], scores[which, : found.shape[1]] = found, told
        return self._told(rows, scores)

    def _told(self, rows: Rows, scores: NDArray[np.float32]) -> tuple[Rows, Values]:
        return rows, np.where(rows < 0, 0.0, likeness(np.where(rows < 0, 0, scores), self.metric))

    def alike(self, x: Matrix, y: Matrix) -> Values:
        """Likeness of each of x to each of y: (...) n x D and m x D to n x m."""
        products: NDArray[np.float32] = np.matmul(x, np.swapaxes(y, -1, -2))
        if self.metric is not Metric.L2:
            return products.astype(np.float64)
        squares = (x**2).sum(-1)[..., None] - 2 * products + (y**2).sum(-1)[..., None, :]
        return likeness(squares, self.metric)


def _even_share(n: int, threads: int) -> int:
    """So many queries at once that all threads have the same to do, in blocks as large as products like them."""
    turns = -(-n // (threads * QUERIES))
    return max(-(-n // (threads * turns)), min(n, _LARGE_BATCH))
