"""Vectors as two short codes: what the walk reads, and what is left to rank by.

    x  ≈  mean  +  step * (head - 128) @ axes  +  scale * residual

axes: the leading principal axes (float32 n_axes x D). head: uint8, `n_axes` a vector, padded to a multiple of
LANES: the walk compares these only. residual: int8 or int16, D a vector, with a float32 scale for each: what the
head leaves of x. docs/search.md shows what the two find, and how many bytes they take.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.types import Metric
from embedsearch.vectors import Matrix

LANES = 32
# leading axes: as many as hold this share of the variance, a multiple of LANES, at most MOST_AXES
VARIANCE_SHARE = 0.88
MOST_AXES = 256
_FIT_VALUES = 40_000_000
_WIDE = 2048  # beyond so many dimensions as many rows do
# of the heads' values so many lie within the range of a byte; the residual takes up what lies outside
_IN_RANGE = 0.9999


@dataclass(frozen=True, slots=True)
class Codec:
    """Takes vectors of `metric` to codes and queries to what codes are compared with.

    mean: float32 D. axes: float32 n_axes x D, orthonormal rows. step: of a head's byte. radius: of inner
    products, see `_lifted`; 0 for other metrics. D counts the coordinate that inner products add. mean_along: the
    coordinates of the mean along the axes.
    """

    metric: Metric
    mean: NDArray[np.float32]
    axes: Matrix
    step: float
    radius: float
    mean_along: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean_along", self.axes @ self.mean)

    @classmethod
    def fit(cls, xt: Matrix, metric: Metric) -> Self:
        """The codec for vectors like the sample `xt` (float32 n x D)."""
        radius = 0.0
        if metric is Metric.IP:
            radius = float(np.sqrt(np.einsum("nd,nd->n", xt, xt).max(initial=0.0))) or 1.0
        stride = -(-len(xt) // _fit_rows(xt.shape[1]))  # spread over all, which may be sorted by what they show
        sample = _lifted(xt[:: max(stride, 1)], radius, metric)
        mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        axes = _principal_axes(sample - mean)
        heads = np.abs((sample - mean) @ axes.T)
        step = max(float(np.quantile(heads, _IN_RANGE)) / 127.0, 1e-12)
        return cls(metric, mean, axes, step, radius)

    @property
    def width(self) -> int:
        """Bytes of a head."""
        return -(-len(self.axes) // LANES) * LANES

    @property
    def dim(self) -> int:
        """Bytes of a residual."""
        return int(self.axes.shape[1])

    def encode(
        self, x: Matrix, residual_bytes: int
    ) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[np.float32], NDArray[np.float32]]:
        """Heads n x width, residuals n x D, their scales n, and squared lengths n of the decoded rows less mean."""
        dtype, most = (np.int8, 127) if residual_bytes == 1 else (np.int16, 32767)
        rows: Matrix = _lifted(x, self.radius, self.metric) - self.mean
        place: Matrix = rows @ self.axes.T
        heads = self._heads(place)
        decoded: Any = (heads[:, : len(self.axes)].astype(np.float32) - 128) * np.float32(self.step) @ self.axes
        left = rows - decoded
        scales: NDArray[np.float32] = np.maximum(np.abs(left).max(axis=1), np.float32(1e-30)) / np.float32(most)
        residuals = np.rint(left / scales[:, None]).astype(dtype)
        decoded += residuals * scales[:, None]
        norms: Any = np.einsum("nd,nd->n", decoded, decoded)
        return heads, residuals, scales, norms

    def leading(self, x: Matrix, n: int) -> Matrix:
        """The first n coordinates of rows along the axes, float32 len(x) x n."""
        found: Any = (_lifted(x, self.radius, self.metric) - self.mean) @ self.axes[:n].T
        return np.asarray(found, np.float32)

    def queries(self, x: Matrix) -> tuple[NDArray[np.uint8], Matrix, Matrix, NDArray[np.float32], Matrix]:
        """What queries x are walked and scored by (see arrays.Queries): heads, along, across, bases; and where they
        lie among the rows: coordinates along the axes, float32 n x n_axes."""
        if self.metric is Metric.L2:
            across: Any = x - self.mean
            along: Any = across @ self.axes.T
            return self._heads(along), along, across, np.einsum("nd,nd->n", across, across), along
        across = _lifted(x, 0.0, self.metric)
        along = across @ self.axes.T
        place = (along if self.metric is Metric.COSINE else along * self._stretch(x)) - self.mean_along
        return self._heads(place), along, across, across @ self.mean, place

    def _heads(self, place: Matrix) -> NDArray[np.uint8]:
        scaled = place * np.float32(1 / self.step)
        scaled += 128.5  # a byte is cut off behind the point
        if place.shape[1] == self.width:
            heads: NDArray[np.uint8] = np.clip(scaled, 0, 255).astype(np.uint8)
            return heads
        heads = np.full((len(place), self.width), 128, np.uint8)
        heads[:, : place.shape[1]] = np.clip(scaled, 0, 255)
        return heads

    def _stretch(self, x: Matrix) -> Matrix:
        """What takes queries to the length of the longest vector, n x 1: that changes no order of inner products, and
        the walk finds them among the rows."""
        lengths = np.sqrt(np.einsum("nd,nd->n", x, x))[:, None]
        stretch: Matrix = np.divide(np.float32(self.radius), lengths, out=np.zeros_like(lengths), where=lengths > 0)
        return stretch


def _lifted(x: Matrix, radius: float, metric: Metric) -> Matrix:
    """For inner products, rows with one more coordinate that brings all to the length `radius`: the nearest row is
    then the one of the largest inner product (Bachrach et al., 2014). With radius 0 the coordinate is 0."""
    if metric is not Metric.IP:
        return x
    missing = np.sqrt(np.maximum(radius**2 - np.einsum("nd,nd->n", x, x), 0))
    return np.concatenate([x, missing[:, None].astype(np.float32)], axis=1)


def _fit_rows(dim: int) -> int:
    return _WIDE if dim > _WIDE else _FIT_VALUES // dim


def _principal_axes(centred: Matrix) -> Matrix:
    """The leading principal axes of `centred` (n x D), as rows; where it has no spread, axes of the space itself."""
    n, dim = centred.shape
    if n >= dim:
        variances, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64) / n)
        axes = vectors.T
    else:
        variances, vectors = np.linalg.eigh((centred @ centred.T).astype(np.float64) / n)
        axes = (vectors.T @ centred) / np.sqrt(np.maximum(variances * n, 1e-30))[:, None]
    variances, axes = variances[::-1], axes[::-1]
    real = int((variances > 1e-7 * max(variances[0], 1e-30)).sum()) if n > 1 and variances[0] > 1e-20 else 0
    if real == 0:
        return np.eye(min(dim, LANES), dim, dtype=np.float32)
    shares = np.cumsum(variances[:real]) / variances[:real].sum()
    enough = int(np.searchsorted(shares, VARIANCE_SHARE)) + 1
    n_axes = min(-(-enough // LANES) * LANES, real, MOST_AXES)
    return np.ascontiguousarray(axes[:n_axes], np.float32)
