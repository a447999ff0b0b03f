"""From an index to groups of items that are nearly equal, and which item of each is kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embedsearch.groups.forest import Forest
from embedsearch.groups.kept import kept_in
from embedsearch.groups.nearness import Nearness
from embedsearch.pipeline.duplicates.comparing import compare_all
from embedsearch.pipeline.duplicates.groups import Duplicates
from embedsearch.pipeline.duplicates.searching import search_all
from embedsearch.pipeline.search import Rows, Searcher
from embedsearch.store import ItemStore
from embedsearch.types import Progress
from embedsearch.vectors import Matrix

# up to here all pairs are compared, also where the index is approximate
COMPARED_ROWS = 100_000
_READ_VALUES = 2**24  # of vectors of groups that are read in one go


def find_duplicates(
    searcher: Searcher, nearness: Nearness, where: str | None, strict: bool, exact: bool | None, progress: Progress
) -> Duplicates:
    """Groups of items of which each is near enough to another one of its group; see `Index.duplicates`."""
    store = searcher.store
    among = None if where is None else searcher.allowed(where)
    n = len(store) if among is None else int(among.sum())
    if exact is None:
        exact = n <= COMPARED_ROWS or searcher.main.exact
    forest = Forest(len(store))
    try:
        if exact:
            compare_all(store, among, forest, nearness, progress)
        else:
            search_all(searcher, among, forest, nearness, progress)
        kept = np.full(len(store), -1, np.int64)
        near = np.full(len(store), np.nan, np.float32)
        for rows, chosen, how_near in _kept(store, forest, nearness, strict, progress):
            kept[rows], near[rows] = chosen, how_near
    finally:
        progress.close()
    return Duplicates(searcher, nearness, kept, near, n_items=n, is_exact=exact)


def _kept(
    store: ItemStore, forest: Forest, nearness: Nearness, strict: bool, progress: Progress
) -> Iterator[tuple[Rows, Rows, NDArray[np.float64]]]:
    """For each component of two or more: its rows, the row that is kept for each, and how near that is."""
    components = _components(forest.roots())
    progress.stage("representatives chosen", sum(map(len, components)))
    n_at_once = max(_READ_VALUES // store.dim, 1)
    waiting: list[Rows] = []
    for n, rows in enumerate(components, start=1):
        waiting.append(rows)
        # small ones are read together; one that is larger than that, in parts
        if n < len(components) and sum(map(len, waiting)) < n_at_once:
            continue
        together = np.concatenate(waiting)
        held = store.vectors_at(together) if len(together) <= 2 * n_at_once else None
        first = 0
        for component in waiting:
            start = first

            def vectors_at(
                places: Rows, held: Matrix | None = held, component: Rows = component, start: int = start
            ) -> Matrix:
                return store.vectors_at(component[places]) if held is None else held[start + places]

            places, near = kept_in(len(component), vectors_at, nearness, strict=strict)
            yield component, component[places], near
            first += len(component)
            progress.advance(len(component))
        waiting = []


def _components(roots: Rows) -> list[Rows]:
    """The rows of each component of two or more, ascending."""
    order = np.argsort(roots, kind="stable")
    starts = np.flatnonzero(np.diff(roots[order], prepend=-1))
    sizes = np.diff(starts, append=len(roots))
    return [order[start : start + size] for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True)]
