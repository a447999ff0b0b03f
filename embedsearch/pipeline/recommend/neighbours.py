"""What is near each row: looked up where it is known, searched where it is not."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embedsearch.pipeline.recommend.saved import WIDTH, SavedLists
from embedsearch.pipeline.search import Rows, Scores
from embedsearch.recommend.strategies import NEIGHBOURS
from embedsearch.vectors import Matrix

Mask = NDArray[np.bool_]
Search = Callable[[Matrix, int, Mask | None], tuple[Rows, Scores]]
_SEARCHED_AT_ONCE = 2**16  # rows


class NeighbourLists:
    """For each row the NEIGHBOURS rows most like it, without itself: a graph that grows where it is asked.

    A list is what a search for it gives, so that it makes no difference where it comes from. Safe to use from many
    threads.
    """

    def __init__(self, n: int, search: Search, saved: Callable[[], SavedLists | None]) -> None:
        """n: rows. search: the k rows most like each vector, among those that are allowed. saved: opens the lists
        that are kept beside the index, where there are any."""
        self._open_saved = saved
        self._n = n
        self._search = search
        self._lock = threading.Lock()
        self._rows: NDArray[np.int32] | None = None
        self._scores: Scores | None = None
        self._is_known: Mask | None = None
        self._saved: SavedLists | None = None
        self._saved_is_open = False

    @property
    def n_known(self) -> int:
        """Rows whose neighbours need no search."""
        return 0 if self._is_known is None else int(self._is_known.sum())

    def of(
        self, rows: Rows, vectors: Callable[[Rows], Matrix], depth: int, allowed: Mask | None
    ) -> tuple[Rows, Scores]:
        """Rows and scores, both len(rows) x depth, -1 and NaN at the end where there are fewer."""
        if allowed is not None or depth > NEIGHBOURS:
            return self.searched(rows, vectors(rows), depth, allowed)
        known_rows, known_scores, is_known = self._memory()
        unknown = np.unique(rows[~is_known[rows]])
        if len(unknown):
            with self._lock:
                unknown = self._from_file(unknown, vectors)
                for first in range(0, len(unknown), _SEARCHED_AT_ONCE):
                    some = unknown[first : first + _SEARCHED_AT_ONCE]
                    # as wide as for the file: an approximate search finds others when it is asked for fewer
                    found, scores = self.searched(some, vectors(some), WIDTH, None)
                    known_rows[some], known_scores[some] = found[:, :NEIGHBOURS], scores[:, :NEIGHBOURS]
                    is_known[some] = True
        return known_rows[rows, :depth].astype(np.int64), known_scores[rows, :depth]

    def _from_file(self, rows: Rows, vectors: Callable[[Rows], Matrix]) -> Rows:
        """Takes over what is kept beside the index; the rows for which there is nothing."""
        assert self._rows is not None and self._scores is not None and self._is_known is not None
        if not self._saved_is_open:
            self._saved, self._saved_is_open = self._open_saved(), True
        if self._saved is None:
            return rows
        found, scores, is_known = self._saved.of(rows, vectors(rows))
        there = rows[is_known]
        self._rows[there], self._scores[there] = found[is_known], scores[is_known]
        self._is_known[there] = True
        return rows[~is_known]

    def _memory(self) -> tuple[NDArray[np.int32], Scores, Mask]:
        with self._lock:
            if self._rows is None or self._scores is None or self._is_known is None:
                n = self._n
                # pages that are never written take no memory
                self._rows = np.empty((n, NEIGHBOURS), np.int32)
                self._scores = np.empty((n, NEIGHBOURS), np.float32)
                self._is_known = np.zeros(n, np.bool_)
            return self._rows, self._scores, self._is_known

    def searched(self, rows: Rows, x: Matrix, depth: int, allowed: Mask | None) -> tuple[Rows, Scores]:
        """The same by a search."""
        found, scores = self._search(x, depth + 1, allowed)
        # the row itself goes last; among exact duplicates it may not be found, and the last one gives way
        others = np.argsort(found == rows[:, None], axis=1, kind="stable")
        found, scores = np.take_along_axis(found, others, 1), np.take_along_axis(scores, others, 1)
        own = found == rows[:, None]
        found[own], scores[own] = -1, np.nan
        width = min(depth, found.shape[1])
        padded = np.full((len(rows), depth), -1, np.int64)
        told = np.full((len(rows), depth), np.nan, np.float32)
        padded[:, :width], told[:, :width] = found[:, :width], scores[:, :width]
        return padded, told
