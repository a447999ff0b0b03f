"""What it means that two items are near enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.types import Metric

# the lengths of normalised rows, kept in float32, are 1 to about 1e-7: two equal directions may miss a score of 1 by it
COSINE_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Nearness:
    """Scores turned so that more is nearer, and how near is near enough.

    limit: the worst score of a pair, in the metric's own unit: a least inner product, a largest squared distance.
    """

    metric: Metric
    limit: float

    @property
    def higher(self) -> bool:
        """Whether a larger score is nearer."""
        return self.metric.higher_is_better

    @property
    def least(self) -> float:
        """The least nearness of a pair; of cosines with a tolerance for rounding."""
        if self.metric is Metric.L2:
            return -self.limit
        return self.limit - (COSINE_TOLERANCE if self.metric is Metric.COSINE else 0.0)

    def of_scores(self, scores: NDArray[np.floating]) -> NDArray[np.floating]:
        """Nearness of scores, and scores of nearness."""
        return -scores if self.metric is Metric.L2 else scores

    def of_pairs(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.float64]:
        """Nearness of each row of x to that row of y (n x D; either may be one row), in float64."""
        if self.metric is Metric.L2:
            steps = x.astype(np.float64) - y
            return np.asarray(-np.einsum("nd,nd->n", steps, steps))
        x, y = np.broadcast_arrays(x, y)
        return np.asarray(np.einsum("nd,nd->n", x, y, dtype=np.float64))
