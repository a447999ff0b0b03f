"""The order of the steps after pooling."""

from __future__ import annotations

from dataclasses import dataclass

from embedsearch.postprocess.pca import Projection
from embedsearch.vectors import Matrix, l2_normalize


@dataclass(frozen=True, slots=True)
class Postprocess:
    """Pooled vectors to final ones: L2, then the projection if there is one, then L2 again.

    normalize=False leaves both L2 steps out, so lengths are kept.
    """

    normalize: bool = True
    projection: Projection | None = None

    def before(self, x: Matrix) -> Matrix:
        """The steps up to the projection: what it is fitted on, and applied to."""
        return l2_normalize(x) if self.normalize else x

    def after(self, x: Matrix) -> Matrix:
        """The steps from the projection on."""
        if self.projection is None:
            return x
        x = self.projection(x)
        return l2_normalize(x) if self.normalize else x

    def __call__(self, x: Matrix) -> Matrix:
        """float32 N x D to float32 N x d; never writes into its argument."""
        return self.after(self.before(x))
