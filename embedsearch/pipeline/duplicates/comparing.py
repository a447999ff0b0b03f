"""All pairs that are near enough, by comparing every item with every other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embedsearch.groups.forest import Forest
from embedsearch.groups.nearness import Nearness
from embedsearch.store import ItemStore
from embedsearch.types import Progress
from embedsearch.vectors import Matrix

Rows = NDArray[np.int64]
_HELD_VALUES = 2**26  # of vectors that are compared with all that come after them, in one reading of the store
_READ_VALUES = 2**20


def compare_all(
    store: ItemStore, among: NDArray[np.bool_] | None, forest: Forest, nearness: Nearness, progress: Progress
) -> None:
    """Joins all pairs that are near enough. among: bool per row, the rows that are compared; None for all.

    Reads the store once for each 256 MiB of its vectors; holds as much of it.
    """
    n = len(store) if among is None else int(among.sum())
    progress.stage("pairs compared", n * (n - 1) // 2)
    start = 0
    while start < len(store):
        held: list[tuple[Rows, Matrix]] = []
        rows, x = np.empty(0, np.int64), np.empty((0, store.dim), np.float32)
        for end, theirs, y in _blocks(store, start, among):
            if x.size == 0:
                held.append((theirs, y))
                if sum(block.size for _, block in held) + y.size > _HELD_VALUES or end == len(store):
                    rows, x = np.concatenate([r for r, _ in held]), np.concatenate([block for _, block in held])
                    held = []
                    next_start = end
                    forest.join_near(rows, x, rows, x, nearness)
                    progress.advance(len(rows) * (len(rows) - 1) // 2)
            else:
                forest.join_near(rows, x, theirs, y, nearness)
                progress.advance(len(rows) * len(theirs))
        start = next_start


def _blocks(store: ItemStore, start: int, among: NDArray[np.bool_] | None) -> Iterator[tuple[int, Rows, Matrix]]:
    """Where a block ends in the store, and its rows from `start` on with their vectors."""
    end = 0
    for block in store.vector_blocks(max(_READ_VALUES // store.dim, 256)):
        first, end = end, end + len(block)
        if end <= start:
            continue
        rows = np.arange(max(first, start), end)
        block = block[rows[0] - first :]
        if among is not None:
            rows, block = rows[among[rows]], block[among[rows]]
        yield end, rows, block
