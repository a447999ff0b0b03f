"""Connected components of items, grown pair by pair; memory is 8 bytes an item, however many pairs there are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.groups.nearness import Nearness
from embedsearch.types import Metric
from embedsearch.vectors import Matrix

Rows = NDArray[np.int64]

# a block of scores is computed and looked through while it is in the processor's cache
_TILE = 1024
# float32 products are right to this share of the vectors' lengths, with room to spare
_MARGIN = 1e-5


class Forest:
    """n items, each alone at first. Items that are joined, directly or by others, are one component."""

    def __init__(self, n: int) -> None:
        self._parents = np.arange(n)

    def __len__(self) -> int:
        return len(self._parents)

    def join(self, ours: Rows, theirs: Rows) -> int:
        """Joins ours[i] with theirs[i]; how many of the pairs were apart before."""
        from embedsearch.compiled.joining import join

        return int(join(self._parents, ours, theirs))

    def roots(self, items: Rows | None = None) -> Rows:
        """The first item of the component of each of `items` (None: of all)."""
        from embedsearch.compiled.joining import roots_of

        roots: Rows = roots_of(self._parents, np.arange(len(self)) if items is None else items)
        return roots

    def join_near(self, ours: Rows, x: Matrix, theirs: Rows, y: Matrix, nearness: Nearness) -> None:
        """Joins all pairs of `ours` (vectors x) and `theirs` (vectors y) that are near enough: by brute force, a tile
        of scores at a time. What is decided is what float64 would decide."""
        from embedsearch.compiled.joining import join_block

        is_l2 = nearness.metric is Metric.L2
        # distances are computed from the centre: far from the origin rounding would be all that is left of them
        centre = x.mean(axis=0, dtype=np.float64).astype(np.float32) if is_l2 and len(x) else np.float32(0)
        x_near, x_sizes = _sized(x - centre if is_l2 else x, is_l2)
        y_near, y_sizes = (x_near, x_sizes) if y is x else _sized(y - centre if is_l2 else y, is_l2)
        for a in range(0, len(ours), _TILE):
            here = slice(a, a + _TILE)
            # a tile below the diagonal was seen from the other side
            for b in range(a if y is x else 0, len(theirs), _TILE):
                there = slice(b, b + _TILE)
                if self._are_one(ours[here], theirs[there]):
                    continue
                near = x_near[here] @ y_near[there].T
                if is_l2:
                    near *= 2
                    near -= x_sizes[here, None]
                    near -= y_sizes[None, there]
                join_block(
                    self._parents, ours[here], theirs[there], x[here], y[there],
                    near, _MARGIN, x_sizes[here], y_sizes[there], nearness.least, is_l2,
                )  # fmt: skip

    def _are_one(self, ours: Rows, theirs: Rows) -> bool:
        """Whether they are in one component already: of thousands of equal items few pairs are compared."""
        first = self.roots(ours[:1])
        return bool((self.roots(ours) == first).all() and (self.roots(theirs) == first).all())


def _sized(x: Matrix, is_l2: bool) -> tuple[Matrix, NDArray[np.float32]]:
    """x, and the length of each row; of l2 its square."""
    squares = np.einsum("nd,nd->n", x, x)
    return x, squares if is_l2 else np.sqrt(squares)
