"""Between the user's vectors and those that fit into float16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import UsageError
from embedsearch.types import Metric
from embedsearch.vectors import Matrix

# float16 ends at 65,504 and is coarse below 6e-5: the largest value of the sample lands between, with room above it
_LARGEST = 16.0
_END = 65_504.0


@dataclass(frozen=True, slots=True)
class Scaling:
    """x -> scale * (x - mean), which changes no ranking.

    mean: float32 D; zero but under l2, where centring keeps far from the origin what float16 would lose. scale: a
    power of two, so that nothing is rounded by it.
    """

    mean: NDArray[np.float32]
    scale: float

    @classmethod
    def fit(cls, xt: Matrix, metric: Metric) -> Self:
        """xt: a sample, float32 n x D, n at least 1."""
        mean = np.zeros(xt.shape[1], np.float32)
        if metric is Metric.L2:
            mean = xt.mean(axis=0, dtype=np.float64).astype(np.float32)
        largest = float(np.abs(xt - mean).max(initial=0.0))
        exponent = np.clip(np.floor(np.log2(_LARGEST / largest)), -100, 100) if largest > 0 else 0
        return cls(mean, float(2.0**exponent))

    def apply(self, x: Matrix) -> Matrix:
        """Vectors or queries (float32 N x D), as a new array."""
        y = x - self.mean
        y *= np.float32(self.scale)
        return y

    def require_room(self, scaled: Matrix) -> None:
        """Raises UsageError where a scaled vector has a value that float16 cannot hold."""
        largest = float(np.abs(scaled).max(initial=0.0))
        if largest > _END:
            raise UsageError(
                f"a vector has a value {largest / _LARGEST:,.0f} times as large as the largest of the sample that the "
                "ivf index was trained on; leave such vectors out, or take --index graph or --metric cosine"
            )

    def scores(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Inner products or squared distances of scaled vectors as those of the vectors themselves."""
        back = np.float32(1 / self.scale)
        return scaled * back * back  # in two steps: the square alone might overflow
