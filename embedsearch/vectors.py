"""The one place that normalises, checks matrices, and maps a metric to FAISS."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedsearch.errors import UsageError
from embedsearch.types import Metric

Matrix = NDArray[np.float32]


# float32 divides well by norms between these; others are divided by in float64
_LEAST_NORM, _MOST_NORM = 1e-30, 1e30


def l2_normalize(x: Matrix) -> Matrix:
    """Rows of `x` (float32 N x D) scaled to unit length, as a new array; a zero row stays zero, and one with NaN
    or infinity is NaN."""
    # float64 sums: a row's norm then does not depend on how numpy blocks the row
    norms = np.sqrt(np.einsum("nd,nd->n", x, x, dtype=np.float64))
    if norms.min(initial=1) > _LEAST_NORM and norms.max(initial=1) < _MOST_NORM:
        quotients: Matrix = x / norms.astype(np.float32)[:, None]
        return quotients
    scaled: Matrix = np.zeros(x.shape, np.float32)
    usual = (norms > _LEAST_NORM) & (norms < _MOST_NORM)
    scaled[usual] = x[usual] / norms[usual].astype(np.float32)[:, None]
    odd = ~usual & (norms != 0)
    with np.errstate(invalid="ignore"):
        scaled[odd] = x[odd] / norms[odd, None]
    return scaled


def as_matrix(x: ArrayLike, dim: int | None = None, *, what: str = "vectors") -> Matrix:
    """`x` as float32 C-order N x D; one vector becomes 1 x D. Copies only where it must.

    Raises UsageError when it is no matrix of numbers or its width is not `dim`.
    """
    try:
        if np.iscomplexobj(x):
            raise TypeError("complex numbers")
        matrix = np.ascontiguousarray(x, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} must be an array of real numbers, not {type(x).__name__}: {error}") from error
    if matrix.ndim == 1:
        matrix = matrix[None, :]
    if matrix.ndim != 2:
        raise UsageError(f"{what} must be N x D, not {matrix.ndim}-dimensional {matrix.shape}")
    if dim is not None and matrix.shape[1] != dim:
        raise UsageError(f"{what} have {matrix.shape[1]} dimensions, the index has {dim}")
    return matrix


def require_finite(x: Matrix, *, what: str = "vectors") -> None:
    """Raises UsageError naming the first row of `x` (N x D) that holds NaN or infinity."""
    # one sum of squares is far cheaper than N x D tests, and NaN or infinity always survives it
    if math.isfinite(np.einsum("nd,nd->", x, x)):
        return
    bad = np.flatnonzero(~finite_rows(x))
    if bad.size:
        raise UsageError(f"{what} hold NaN or infinity, first in row {bad[0]}")


def finite_rows(x: Matrix) -> NDArray[np.bool_]:
    """For each row of `x` (N x D), whether it is free of NaN and infinity."""
    return np.asarray(np.isfinite(x).all(axis=1), np.bool_)


def faiss_metric(metric: Metric) -> int:
    """The FAISS constant for `metric`; cosine is the inner product of normalised rows."""
    import faiss

    constants: dict[Metric, Any] = {
        Metric.COSINE: faiss.METRIC_INNER_PRODUCT,
        Metric.IP: faiss.METRIC_INNER_PRODUCT,
        Metric.L2: faiss.METRIC_L2,
    }
    return int(constants[metric])
