"""The seeded sample that PCA, whitening and the training of an index look at first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.config import Recipe
from embedsearch.errors import UsageError
from embedsearch.postprocess import Projection, fit_projection
from embedsearch.store import ItemStore

SAMPLE_ROWS = 50_000
SEED = 0


def fit_on_store(store: ItemStore, recipe: Recipe) -> Projection:
    """The projection of `recipe`, fitted on at most SAMPLE_ROWS of the store's rows, drawn with SEED.

    Raises UsageError when the recipe asks for more dimensions than the data can give.
    """
    sample = store.vectors_at(sample_rows(len(store)))
    try:
        return fit_projection(
            sample, int(recipe.out_dim or 0), whiten=recipe.whiten is not None, power=recipe.whiten_power
        )
    except UsageError as error:
        raise UsageError(f"{_asked(recipe)}: {error}; what was extracted is kept") from error


def sample_rows(n: int, without: NDArray[np.int64] | None = None, most: int = SAMPLE_ROWS) -> NDArray[np.int64]:
    """At most `most` of n rows, drawn with SEED, ascending; none of `without`."""
    rows = np.arange(n, dtype=np.int64)
    if without is not None and len(without):
        rows = np.delete(rows, without)
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(SEED).choice(rows, most, replace=False))


def check_width(recipe: Recipe, width: int) -> None:
    """Raises UsageError when the recipe asks for more dimensions than vectors of `width` have."""
    if recipe.out_dim is not None and recipe.out_dim > width:
        raise UsageError(f"{_asked(recipe)}: the vectors have {width} dimensions; use at most {width}")


def _asked(recipe: Recipe) -> str:
    return f"whiten {recipe.whiten}" if recipe.whiten is not None else f"pca {recipe.pca}"
