"""Regions of the space: which nodes lie side by side in memory, and where a walk enters.

Neighbours that share cache lines are what makes the walk fast, for queries as well: a batch is answered in the
order of the regions that its queries fall into.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.vectors import Matrix

N_COORDINATES = 32  # leading coordinates that regions are told apart by
# regions that a walk enters by; the walks that make the graph take more, or regions apart from others would be linked
# to nothing but themselves, and small clusters not be found
N_ENTRIES = 4
N_BUILD_ENTRIES = 8
_SEED = 0
_FIT_ROWS = 64  # a region, spread over the sample


@dataclass(frozen=True, slots=True)
class Regions:
    """centres: float32 n x at most N_COORDINATES, in such an order that neighbours lie near each other. lengths:
    theirs, squared."""

    centres: Matrix
    lengths: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lengths", np.einsum("nd,nd->n", self.centres, self.centres))

    @classmethod
    def fit(cls, leading: Matrix, n_regions: int) -> Self:
        """By k-means over a sample of leading coordinates, seeded."""
        import faiss

        kmeans = faiss.Kmeans(leading.shape[1], n_regions, niter=8, seed=_SEED, min_points_per_centroid=1)
        kmeans.train(np.ascontiguousarray(leading[:: max(len(leading) // (_FIT_ROWS * n_regions), 1)]))
        centres = np.asarray(kmeans.centroids, np.float32)
        return cls(centres[_chain(centres)])

    def __len__(self) -> int:
        return len(self.centres)

    def nearest(self, leading: Matrix, n: int) -> tuple[Matrix, NDArray[np.int64]]:
        """The n nearest regions of each row: squared distances, less the row's own squared length, and their numbers;
        both len(leading) x min(n, len(self))."""
        leading = leading[:, : self.centres.shape[1]]
        distances = self.lengths - 2 * (leading @ self.centres.T)  # the row's own length changes no order
        n, rows = min(n, len(self)), np.arange(len(leading))[:, None]
        numbers = distances.argpartition(n - 1, axis=1)[:, :n] if n < len(self) else distances.argsort(axis=1)
        near = distances[rows, numbers]
        order = near.argsort(axis=1, kind="stable")
        return near[rows, order], numbers[rows, order]


def _chain(centres: Matrix) -> NDArray[np.int64]:
    """From one centre to the nearest that was not passed yet, and so on."""
    order = np.zeros(len(centres), np.int64)
    passed = np.zeros(len(centres), np.bool_)
    for place in range(1, len(centres)):
        passed[order[place - 1]] = True
        distances = ((centres - centres[order[place - 1]]) ** 2).sum(axis=1)
        distances[passed] = np.inf
        order[place] = int(np.argmin(distances))
    return order


def n_regions(n: int) -> int:
    """For n vectors: about the root of n, from 1 to 1024."""
    return int(np.clip(round(0.75 * n**0.5), 1, min(1024, max(n // 8, 1))))
