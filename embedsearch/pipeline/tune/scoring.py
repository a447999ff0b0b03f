"""Candidates scored on pooled arrays: one value for each query, by exact search."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from embedsearch.evaluate.ranking import average_precision, precision_at, ranked_gains, reciprocal_rank
from embedsearch.pipeline.tune.candidates import Candidate, Cell
from embedsearch.pipeline.tune.sample import Truth
from embedsearch.postprocess import fit_projection
from embedsearch.vectors import Matrix, l2_normalize

BLOCK = 1024  # queries whose scores are in memory at once
Values = NDArray[np.float64]
Vectors = Callable[[Cell], Matrix]


def concatenated(vectors: Vectors, layers: Sequence[str], pooling: str) -> Matrix:
    """Vectors of several layers one after the other, of unit length, as a recipe with `combine` concat gives."""
    parts = [vectors(Cell(layer, pooling)) for layer in layers]
    return l2_normalize(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))


class Projector:
    """PCA and whitening of one sample to any number of dimensions and power, from one decomposition.

    widest: whitens to most dimensions; the others are made of what it gives, by `to`.
    """

    def __init__(self, sample: Matrix, most: int) -> None:
        """most: dimensions that any of them asks for."""
        self.widest = fit_projection(sample, most, whiten=True)
        lengths = np.linalg.norm(self.widest.matrix.astype(np.float64), axis=0)
        self._deviations = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)

    def to(self, whitened: Matrix, candidate: Candidate) -> Matrix:
        """float32 n x d, as `fit_projection` of the candidate's own dimensions and power gives them, of unit length."""
        dim = candidate.pca or candidate.whiten or 0
        power = 0.0 if candidate.pca is not None else candidate.whiten_power
        back = (self._deviations[:dim] ** (1 - power)).astype(np.float32)
        return l2_normalize(whitened[:, :dim] * back)


def judged_values(x: Matrix, truth: Truth) -> dict[str, Values]:
    """mAP and P@1 of each judged item as a query among the others; NaN for those to which none is relevant.

    x: float32 n x D of unit length, the judged items first; those behind them are wrong answers.
    """
    m, answers = len(truth), x.T.astype(np.float64)
    found: dict[str, list[Values]] = {"mAP": [], "P@1": []}
    for start in range(0, m, BLOCK):
        rows = slice(start, min(start + BLOCK, m))
        relevant, left_out = np.zeros((2, rows.stop - start, len(x)), np.bool_)
        relevant[:, :m], left_out[:, :m] = truth.relevant[rows], truth.left_out[rows]
        gains = ranked_gains(x[rows].astype(np.float64) @ answers, relevant, left_out=left_out)
        found["mAP"].append(average_precision(gains))
        found["P@1"].append(precision_at(gains, 1))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def found_again(asking: Matrix, answering: Matrix) -> Values:
    """For each row of `asking` 1 / the place of the same row of `answering` among all."""
    n, answers = len(asking), answering.T.astype(np.float64)
    blocks = (asking[start : start + BLOCK].astype(np.float64) for start in range(0, n, BLOCK))
    return np.concatenate(
        [
            reciprocal_rank(ranked_gains(block @ answers, np.eye(len(block), n, at * BLOCK)))
            for at, block in enumerate(blocks)
        ]
    )
