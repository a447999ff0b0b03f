"""Which row stands at which position of an index: written when it is built, read once rows have changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.artifact import Manifest
from embedsearch.errors import DamagedIndexError
from embedsearch.index import LiveIndex, VectorIndex
from embedsearch.store import ItemStore


def write_positions(store: ItemStore, path: Path) -> None:
    """Records the rows of `store`, over which an index has just been built in their order."""
    with path.open("wb") as stream:
        np.save(stream, store.row_ids)


def current_index(root: Path, manifest: Manifest, main: VectorIndex, store: ItemStore) -> VectorIndex | LiveIndex:
    """`main` itself where nothing has changed since it was built, else what it and the tail of the store are together.

    Raises DamagedIndexError when they do not hold the rows that the manifest counts.
    """
    index: VectorIndex | LiveIndex = main
    if not manifest.is_folded:
        built_over = _read(root / str(manifest.index.rows))
        index = LiveIndex.compose(main, built_over, store.row_ids, store.vectors_at)
    if not len(index) == len(store) == manifest.n_items or index.dim != store.dim:
        raise DamagedIndexError(
            f"{root} is damaged: {len(index)} vectors in the index, {len(store)} rows in the store, "
            f"{manifest.n_items} in the manifest"
        )
    return index


def drift(root: Path, manifest: Manifest, store: ItemStore) -> tuple[int, int]:
    """How many rows of `store` the index does not hold, and how many of its positions stand for no row any more."""
    if manifest.is_folded:
        return 0, 0
    built_over = _read(root / str(manifest.index.rows))
    n_common = int(np.isin(built_over, store.row_ids, assume_unique=True).sum())
    return len(store) - n_common, len(built_over) - n_common


def _read(path: Path) -> NDArray[np.int64]:
    try:
        rows: NDArray[np.int64] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DamagedIndexError(f"{path} cannot be read: {error}") from error
    if rows.ndim != 1 or rows.dtype != np.int64:
        raise DamagedIndexError(f"{path} is damaged: it holds {rows.dtype} {rows.shape}, not a list of row ids")
    return rows
