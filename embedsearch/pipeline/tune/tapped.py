"""One pass of a network, pooled at every layer in every way that suits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from embedsearch.config import Recipe
from embedsearch.errors import UsageError
from embedsearch.pipeline.network import PooledNetwork
from embedsearch.pipeline.timing import Clock
from embedsearch.pipeline.tune.candidates import Cell, suiting
from embedsearch.vectors import Matrix, l2_normalize

if TYPE_CHECKING:
    from embedsearch.backbones import Backbone
    from embedsearch.types import Features


class TappedNetwork(PooledNetwork):
    """Gives rows that hold the L2-normalised vector of each cell, one after the other.

    cells: with their dimensions, in that order.
    """

    def __init__(
        self,
        backbone: Backbone,
        recipe: Recipe,
        batch_size: int | None,
        n_passes: int = 1,
        clock: Clock | None = None,
        *,
        poolings: Sequence[str] = (),
    ) -> None:
        """recipe: with all layers. poolings: to try, empty for those that suit. Raises UsageError for one that suits no
        layer, and for networks that cannot tell their shapes without a pass."""
        blanks = backbone.blank(recipe.layers)
        if blanks is None:
            raise UsageError(f"{backbone.name} does not tell the shapes of its layers before it has read an item")
        self._suiting = {layer: suiting(blanks[layer], poolings) for layer in recipe.layers}
        suiting_one = {pooling for found in self._suiting.values() for pooling in found}
        if lost := [pooling for pooling in poolings if pooling not in suiting_one]:
            layers = ", ".join(recipe.layers)
            raise UsageError(f"pooling {', '.join(lost)} suits none of the layers {layers}; leave it out")
        self.cells: dict[Cell, int] = {}
        super().__init__(backbone, recipe, batch_size, n_passes, clock)

    def _pool(self, layers: Sequence[Features]) -> Matrix:
        from embedsearch.pooling import pool

        recipe = self._recipe
        parts: dict[Cell, Matrix] = {
            Cell(name, pooling): l2_normalize(pool(features, pooling, gem_p=recipe.gem_p).cpu().numpy())
            for name, features in zip(recipe.layers, layers, strict=True)
            for pooling in self._suiting[name]
        }
        self.cells = {cell: part.shape[1] for cell, part in parts.items()}
        return np.concatenate(list(parts.values()), axis=1)
