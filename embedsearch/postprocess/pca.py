"""PCA and PCA-whitening, fitted on a sample and stored as safetensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from embedsearch.errors import DamagedIndexError, UsageError
from embedsearch.vectors import Matrix


@dataclass(frozen=True, slots=True)
class Projection:
    """y = (x - mean) @ matrix, with mean float32 D and matrix float32 D x d."""

    mean: Matrix
    matrix: Matrix

    def __call__(self, x: Matrix) -> Matrix:
        return np.ascontiguousarray((x - self.mean) @ self.matrix, dtype=np.float32)

    def save(self, path: Path) -> None:
        from safetensors.numpy import save

        path.write_bytes(save({"mean": self.mean, "matrix": self.matrix}))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises DamagedIndexError when the file is not what `save` wrote."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(path.read_bytes())
            return cls(tensors["mean"], tensors["matrix"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DamagedIndexError(f"{path} cannot be read: {error}") from error


def fit_projection(sample: Matrix, dim: int, *, whiten: bool) -> Projection:
    """The `dim` directions of largest variance in `sample` (N x D); whitening gives each unit variance.

    Signs are fixed (the largest entry of a direction is positive), so the same sample gives the same
    projection on any LAPACK. Directions without variance are dropped to zero, never blown up.
    Whitening as Jégou & Chum, "Negative evidences and co-occurences in image retrieval" (2012).
    Raises UsageError when `dim` is more than the data or the sample can give.
    """
    n, width = sample.shape
    if dim > width:
        raise UsageError(f"{dim} dimensions are asked of vectors that have {width}; use at most {width}")
    if dim > n - 1:
        raise UsageError(f"{dim} dimensions cannot be fitted on {n} vectors; use at most {max(n - 1, 0)}")
    mean = sample.mean(axis=0, dtype=np.float64)
    centred = sample.astype(np.float64) - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / (n - 1))
    values, vectors = values[::-1][:dim], vectors[:, ::-1][:, :dim]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(dim)])
    if whiten:
        floor = max(float(values[0]), 0.0) * 1e-10
        scale = np.zeros_like(values)
        np.divide(1.0, np.sqrt(np.maximum(values, floor)), out=scale, where=values > floor)
        vectors = vectors * scale
    return Projection(mean.astype(np.float32), np.ascontiguousarray(vectors, dtype=np.float32))
