"""PCA and PCA-whitening, fitted on a sample and stored as safetensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import DamagedIndexError, UsageError, counted
from embedsearch.vectors import Matrix

_NO_VARIANCE = 1e-10  # of the largest one, below which a variance is that of rounding


@dataclass(frozen=True, slots=True)
class Projection:
    """y = (x - mean) @ matrix, with mean float32 D and matrix float32 D x d.

    n_sample: vectors it was fitted on. shrinkage: the share of the mean variance in what whitening divided by, None for
    PCA. Both are None in files of before they were kept.
    """

    mean: Matrix
    matrix: Matrix
    n_sample: int | None = None
    shrinkage: float | None = None

    def __call__(self, x: Matrix) -> Matrix:
        return np.ascontiguousarray((x - self.mean) @ self.matrix, dtype=np.float32)

    @property
    def note(self) -> str:
        """How it was fitted, for people; "" where that is not known."""
        if self.n_sample is None:
            return ""
        told = f"fitted on {counted(self.n_sample, 'vector')} of {counted(len(self.mean), 'dimension')}"
        if self.shrinkage is None:
            return told
        return f"{told}, shrunk by {self.shrinkage:.2g} towards equal variances"

    def save(self, path: Path) -> None:
        from safetensors.numpy import save

        about = {"n_sample": self.n_sample, "shrinkage": self.shrinkage}
        known = {name: np.array([value]) for name, value in about.items() if value is not None}
        path.write_bytes(save({"mean": self.mean, "matrix": self.matrix, **known}))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises DamagedIndexError when the file is not what `save` wrote."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(path.read_bytes())
            n_sample = int(tensors["n_sample"][0]) if "n_sample" in tensors else None
            shrinkage = float(tensors["shrinkage"][0]) if "shrinkage" in tensors else None
            return cls(tensors["mean"], tensors["matrix"], n_sample, shrinkage)
        except (OSError, SafetensorError, KeyError, ValueError, IndexError) as error:
            raise DamagedIndexError(f"{path} cannot be read: {error}") from error


def fit_projection(sample: Matrix, dim: int, *, whiten: bool, power: float = 1.0) -> Projection:
    """The `dim` directions of largest variance in `sample` (N x D); whitening gives each unit variance.

    power: of whitening, 0 to 1: each direction is divided by its standard deviation to this power, so that
    below 1 those of large variance still count more, as in PCA.

    Signs are fixed (the largest entry of a direction is positive), so the same sample gives the same
    projection on any LAPACK. Directions without variance are dropped to zero, never blown up.
    Whitening as Jégou & Chum, "Negative evidences and co-occurences in image retrieval" (2012), by variances
    that are shrunk towards their mean over all D directions, see `shrinkage_of`: the small ones of a sample
    hardly larger than D are too small, and whitening by them blows up noise.
    Raises UsageError when `dim` is more than the data or the sample can give.
    """
    n, width = sample.shape
    if dim > width:
        raise UsageError(f"{dim} dimensions are asked of vectors that have {width}; use at most {width}")
    if dim > n - 1:
        raise UsageError(f"{dim} dimensions cannot be fitted on {n} vectors; use at most {max(n - 1, 0)}")
    mean = sample.mean(axis=0, dtype=np.float64)
    centred = sample.astype(np.float64) - mean
    variances, directions = _principal(centred, dim)
    vectors = directions * np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(dim)])
    shrinkage = None
    if whiten:
        shrinkage = shrinkage_of(centred, variances)
        kept = variances[:dim] > max(float(variances[0]), 0.0) * _NO_VARIANCE
        shrunk = (1 - shrinkage) * variances[:dim] + shrinkage * variances.sum() / width
        scale = np.zeros(dim)
        scale[kept] = shrunk[kept] ** (-power / 2)
        vectors = vectors * scale
    return Projection(mean.astype(np.float32), np.ascontiguousarray(vectors, dtype=np.float32), n, shrinkage)


def shrinkage_of(centred: NDArray[np.float64], variances: NDArray[np.float64]) -> float:
    """The share, 0 to 1, of the mean variance that brings a covariance nearest to the true one, in expectation.

    Ledoit & Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (2004), section 3. centred:
    N x D around its mean. variances: of its covariance (over N - 1) in all principal directions.
    """
    n, width = centred.shape
    values = variances * ((n - 1) / n)  # of the covariance over N, as in the paper
    squares = float(values @ values)
    apart = squares - float(values.sum()) ** 2 / width  # of the covariance from a multiple of the identity
    fourth = float((np.einsum("ij,ij->i", centred, centred) ** 2).sum())
    noise = max((fourth / n - squares) / n, 0.0)  # of the covariance from the true one
    return min(noise / apart, 1.0) if apart > 0 else 0.0


def _principal(centred: NDArray[np.float64], dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All variances that may differ from 0, descending, and the first `dim` directions as D x dim."""
    n, width = centred.shape
    if n >= width:
        values, vectors = np.linalg.eigh(centred.T @ centred / (n - 1))
        return np.maximum(values[::-1], 0.0), vectors[:, ::-1][:, :dim]
    # fewer vectors than dimensions: the N x N products have the same eigenvalues, and cost less
    values, vectors = np.linalg.eigh(centred @ centred.T / (n - 1))
    directions = centred.T @ vectors[:, ::-1][:, :dim]
    lengths = np.linalg.norm(directions, axis=0)
    np.divide(directions, lengths, out=directions, where=lengths > 0)
    return np.maximum(values[::-1], 0.0), directions
