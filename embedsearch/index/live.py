"""An index that goes on being right while its rows change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import DamagedIndexError
from embedsearch.index.base import N_EXTRA, SearchParams, VectorIndex
from embedsearch.index.flat import FlatIndex
from embedsearch.vectors import Matrix

# up to here it is cheaper to ask for as many more answers than to tell the index which positions are alive
FEW_DEAD = 32

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


class LiveIndex:
    """An index over the rows there were when it was built, and an exact one over the tail: those that came since.

    Speaks of current rows as a VectorIndex speaks of its own. A position of the main index whose row was deleted or
    replaced is dead: it is left in the structure and out of every answer. Nothing changes once it is composed, so it
    is safe to search from many threads.
    """

    def __init__(self, main: VectorIndex, row_at: Rows, tail_rows: Rows, tail_vectors: Matrix) -> None:
        """row_at: the current row of each position of `main`, -1 where it is dead. tail_rows, tail_vectors: the current
        rows that no position covers, ascending, and their vectors (float32 n x D)."""
        self._main = main
        self._row_at = row_at
        self._alive = row_at >= 0
        self._alive.setflags(write=False)  # so that what the index makes of it is made once
        self._n_alive = int(self._alive.sum())
        self._tail_rows = tail_rows
        self._position_at: Rows | None = None
        self._tail = FlatIndex.create(main.dim, main.metric, {})
        if len(tail_rows):
            self._tail.train(tail_vectors)
            self._tail.add(tail_vectors)

    @classmethod
    def compose(cls, main: VectorIndex, built_over: Rows, now: Rows, vectors_at: Callable[[Rows], Matrix]) -> Self:
        """built_over: the stable id of the row at each position of `main`; now: that of each current row.

        vectors_at: gives the vectors of current rows. Raises DamagedIndexError when `built_over` is not of `main`.
        """
        if len(built_over) != len(main):
            raise DamagedIndexError(
                f"the index is damaged: it has {len(main)} positions, and rows for {len(built_over)}"
            )
        row_at = _places(built_over, now)
        is_tail = np.ones(len(now), np.bool_)
        is_tail[row_at[row_at >= 0]] = False
        tail_rows = np.flatnonzero(is_tail)
        return cls(main, row_at, tail_rows, vectors_at(tail_rows))

    @property
    def n_tail(self) -> int:
        """Rows that are searched exactly, beside the main index."""
        return len(self._tail_rows)

    @property
    def n_dead(self) -> int:
        """Positions of the main index whose rows are no more."""
        return len(self._main) - self._n_alive

    def __len__(self) -> int:
        return self._n_alive + self.n_tail

    @property
    def dim(self) -> int:
        return self._main.dim

    @property
    def exact(self) -> bool:
        return self._main.exact or self._n_alive == 0

    def search(
        self, xq: Matrix, k: int, params: SearchParams, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Scores, Rows]:
        """Scores and current rows of the k best for each query, both n x k, best first; see `VectorIndex.search`.

        allowed: bool per current row.
        """
        return self._merged(self._in_main(xq, k, params, allowed), self._in_tail(xq, k, allowed), k)

    def positions_of(self, rows: Rows) -> Rows:
        """The position of each of `rows` in the main index, -1 for those of the tail."""
        if self._position_at is None:
            places = np.full(len(self), -1, np.int64)
            places[self._row_at[self._alive]] = np.flatnonzero(self._alive)
            self._position_at = places
        return self._position_at[rows]

    def completed(self, xq: Matrix, k: int, scores: Scores, positions: Rows) -> tuple[Scores, Rows, Rows]:
        """What is found where the answers of the main index are known, as positions (n x m, -1 for none): scores and
        rows n x k, and how many of the positions are alive."""
        rows = self._row_at[np.maximum(positions, 0)]
        rows[positions < 0] = -1
        theirs = self._in_tail(xq, k, None)
        return *self._merged((scores, rows), theirs, k), (rows >= 0).sum(axis=1)

    def _merged(self, ours: tuple[Scores, Rows], theirs: tuple[Scores, Rows], k: int) -> tuple[Scores, Rows]:
        scores = np.concatenate([ours[0], theirs[0]], axis=1)
        rows = np.concatenate([ours[1], theirs[1]], axis=1)
        higher = self._main.metric.higher_is_better
        scores[rows < 0] = -np.inf if higher else np.inf
        best = np.argsort(-scores if higher else scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, best, axis=1), np.take_along_axis(rows, best, axis=1)

    def _in_main(
        self, xq: Matrix, k: int, params: SearchParams, allowed: NDArray[np.bool_] | None
    ) -> tuple[Scores, Rows]:
        among: NDArray[np.bool_] | None = None
        if allowed is not None:
            among = self._alive & allowed[self._row_at]
        elif self.n_dead > FEW_DEAD:
            among = self._alive
        # a few dead are answered as well, and fall out with the rows they had
        k = min(k + self.n_dead, len(self._main)) if among is None else min(k, int(among.sum()))
        if k == 0:
            return _none(len(xq))
        if among is None and self.n_dead:
            params = {**params, N_EXTRA: params.get(N_EXTRA, 0) + self.n_dead}
        scores, positions = self._main.search(xq, k, params, among)
        rows = self._row_at[np.maximum(positions, 0)]
        rows[positions < 0] = -1
        return scores, rows

    def _in_tail(self, xq: Matrix, k: int, allowed: NDArray[np.bool_] | None) -> tuple[Scores, Rows]:
        among = None if allowed is None else allowed[self._tail_rows]
        k = min(k, self.n_tail if among is None else int(among.sum()))
        if k == 0:
            return _none(len(xq))
        scores, found = self._tail.search(xq, k, {}, among)
        rows = self._tail_rows[np.maximum(found, 0)]
        rows[found < 0] = -1
        return scores, rows


def _places(wanted: Rows, among: Rows) -> Rows:
    """For each of `wanted` its place in `among` (unique, in any order), -1 where it is not there."""
    if len(among) == 0:
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(among, kind="stable")
    nearest = order[np.minimum(np.searchsorted(among, wanted, sorter=order), len(among) - 1)]
    places: Rows = np.where(among[nearest] == wanted, nearest, -1).astype(np.int64)
    return places


def _none(n: int) -> tuple[Scores, Rows]:
    return np.empty((n, 0), np.float32), np.empty((n, 0), np.int64)
