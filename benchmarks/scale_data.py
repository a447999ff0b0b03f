"""Vectors in any number, made from a seed, about as hard to search as real embeddings.

A tree of clusters in 128 dimensions: four levels, each with 32 branches whose sizes fall as a power of their rank
(0.7). A row is the sum of a Gaussian vector for each branch it lies on, a tenth shorter with each level, and of noise
of its own, 1.75 times as long as the first of them; it has unit length. Variances fall as a power of the axis (0.8),
those of the noise along axes of its own in each of 64 groups of cells. Clusters overlap, and do so on every scale: the
vectors do not get easier as they get more, as those of a mixture with few clusters do. The first rows of a larger set
are those of a smaller one. `local_dimension` tells how hard a set is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from embedsearch.vectors import l2_normalize

DIM = 128
SEED = 7
BLOCK = 2**16
_LEVELS, _BRANCHES, _GROUPS, _CENTRES = 4, 32, 64, 2**16
_SIZE_POWER, _VARIANCE_POWER, _SHRINKS, _NOISE = 0.7, 0.8, 0.9, 1.75
_QUERIES_FROM = 2**40  # a block number that no set reaches


@dataclass(frozen=True)
class Mixture:
    seed: int = SEED

    @cached_property
    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, 0])
        variances = np.arange(1, DIM + 1) ** -_VARIANCE_POWER
        spread = np.sqrt(variances / variances.sum()).astype(np.float32)
        centres = rng.standard_normal((_CENTRES, DIM), dtype=np.float32) * spread
        axes = np.stack([np.linalg.qr(rng.standard_normal((DIM, DIM)))[0] for _ in range(_GROUPS)]).astype(np.float32)
        sizes = (np.arange(_BRANCHES) + 2.0) ** -_SIZE_POWER
        return spread, centres, axes, np.cumsum(sizes / sizes.sum())

    def block(self, number: int) -> np.ndarray:
        """Rows number * BLOCK and on, float32 BLOCK x DIM."""
        spread, centres, axes, shares = self._parts
        rng = np.random.default_rng([self.seed, 1, number])
        cell = np.zeros(BLOCK, np.int64)
        x = np.zeros((BLOCK, DIM), np.float32)
        for level in range(_LEVELS):
            branch = np.minimum(np.searchsorted(shares, rng.random(BLOCK)), _BRANCHES - 1)
            cell = cell * _BRANCHES + branch
            # a cell's vector is one of a table: two cells that share one differ in their other levels
            x += np.float32(_SHRINKS**level) * centres[(cell * _LEVELS + level) * 2_654_435_761 % _CENTRES]
        noise = rng.standard_normal((BLOCK, DIM), dtype=np.float32) * spread * np.float32(_NOISE)
        for group in range(_GROUPS):
            own = cell // _BRANCHES % _GROUPS == group
            noise[own] = noise[own] @ axes[group]
        return l2_normalize(x + noise)

    def queries(self, n: int) -> np.ndarray:
        """Rows that are in no set, float32 n x DIM; n at most BLOCK."""
        return self.block(_QUERIES_FROM)[:n]

    def write(self, path: Path, n: int) -> None:
        """The first n rows as a .npy file, whole or not at all."""
        partial = path.with_suffix(".partial.npy")
        rows = open_memmap(partial, "w+", np.float32, (n, DIM))
        for start in range(0, n, BLOCK):
            rows[start : start + BLOCK] = self.block(start // BLOCK)[: n - start]
        rows.flush()
        partial.replace(path)


def exact_neighbours(x: np.ndarray, xq: np.ndarray, k: int) -> np.ndarray:
    """The k rows of x (N x D, may be mapped) with the largest inner products, int64 n x k, a block at a time."""
    import faiss

    best = faiss.ResultHeap(len(xq), k, keep_max=True)
    for start in range(0, len(x), BLOCK):
        scores, rows = faiss.knn(
            xq, np.ascontiguousarray(x[start : start + BLOCK]), k, metric=faiss.METRIC_INNER_PRODUCT
        )
        best.add_result(scores, rows + start)
    best.finalize()
    return best.I


def local_dimension(x: np.ndarray, xq: np.ndarray, k: int = 100) -> float:
    """The median local intrinsic dimension of queries, by the maximum likelihood estimate over k neighbours.

    Amsaleg et al., "Estimating local intrinsic dimensionality" (2015). The higher, the less the nearest stand out.
    """
    rows = exact_neighbours(x, xq, k)
    distances = np.sqrt(np.maximum(2 - 2 * np.einsum("qd,qkd->qk", xq, x[rows]), 1e-12))
    distances = distances[distances[:, 0] > 1e-3]  # queries that are rows, too, say nothing
    return float(np.median(-1 / np.log(distances[:, :-1] / distances[:, -1:]).mean(axis=1)))
