"""Every candidate's vectors, made of pooled arrays one cell after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from embedsearch.pipeline.tune.candidates import DIMS, Candidate, with_projections
from embedsearch.pipeline.tune.pooled import Pooled
from embedsearch.pipeline.tune.scoring import Projector, concatenated
from embedsearch.vectors import Matrix

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sweep:
    """fit: rows that projections are fitted on, of the first view. n_views: of each item."""

    pooled: Pooled
    fit: Rows
    n_views: int = 1

    def variants(self, layers: tuple[str, ...], pooling: str, rows: Rows) -> Iterator[tuple[Candidate, list[Matrix]]]:
        """Without a projection and with each that can be fitted: the vectors of `rows`, a matrix for each view."""
        yield from self._made(layers, pooling, rows, None)

    def vectors(self, candidate: Candidate, rows: Rows) -> list[Matrix]:
        """The same of one candidate."""
        ((_, sides),) = self._made(candidate.layers, candidate.pooling, rows, candidate)
        return sides

    def _made(
        self, layers: tuple[str, ...], pooling: str, rows: Rows, only: Candidate | None
    ) -> Iterator[tuple[Candidate, list[Matrix]]]:
        first = concatenated(partial(self.pooled.vectors, view=0), layers, pooling)
        sides = [first[rows]]
        for view in range(1, self.n_views):
            sides.append(concatenated(partial(self.pooled.vectors, view=view), layers, pooling)[rows])
        width = first.shape[1]
        candidates = with_projections(layers, pooling, width, len(self.fit)) if only is None else [only]
        projector, whitened = None, list[Matrix]()
        for candidate in candidates:
            if not candidate.projection:
                yield candidate, sides
                continue
            if projector is None:
                most = max(dim for dim in DIMS if dim < min(width, len(self.fit) - 1))
                projector = Projector(first[self.fit], most)
                whitened = [projector.widest(side) for side in sides]
            yield candidate, [projector.to(x, candidate) for x in whitened]

    def width(self, candidate: Candidate) -> int:
        """Dimensions of its vectors."""
        return candidate.pca or candidate.whiten or sum(self.pooled.cells[cell] for cell in candidate.cells)
