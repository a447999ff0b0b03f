"""Groups that were found: read one by one, with what the store knows of their items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.groups.nearness import Nearness
from embedsearch.pipeline.search import Rows, Searcher
from embedsearch.types import Hit

_GROUPS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Group:
    """Items that are nearly equal.

    kept: the one that stands for them, with a score of NaN. others: best first, each with its score with the kept one.
    n_chained: how many of them are not near enough to the kept one themselves, but to others of the group.
    """

    kept: Hit
    others: list[Hit]
    n_chained: int

    def __len__(self) -> int:
        return 1 + len(self.others)

    @property
    def ids(self) -> list[str]:
        """All ids, that of the kept item first."""
        return [self.kept.id, *(hit.id for hit in self.others)]

    @property
    def worst_score(self) -> float:
        """How near the farthest of them is to the kept one."""
        return self.others[-1].score


class Duplicates:
    """Groups of an index, largest first; len() of them. Iterating reads them from the store, a few at a time.

    is_exact: all pairs were compared; otherwise the index was asked, and pairs that it does not find are missing.
    n_items: how many items were looked at. n_grouped: how many of them are in groups. n_others: how many would go.
    n_chained: how many of these are not near enough to the one that is kept.
    """

    def __init__(
        self,
        searcher: Searcher,
        nearness: Nearness,
        kept: Rows,
        near: NDArray[np.float32],
        *,
        n_items: int,
        is_exact: bool,
    ) -> None:
        """kept: the row that stands for each row, -1 where it is in no group. near: how near it is to that."""
        self.nearness, self.n_items, self.is_exact = nearness, n_items, is_exact
        self._searcher, self._near = searcher, near
        rows = np.flatnonzero(kept >= 0)
        is_other = kept[rows] != rows
        # the kept one first, then the nearest
        order = np.lexsort((rows, -near[rows], is_other, kept[rows]))
        rows = rows[order]
        starts = np.flatnonzero(np.diff(kept[rows], prepend=-1))
        sizes = np.diff(starts, append=len(rows))
        by_size = np.argsort(-sizes, kind="stable")
        by_size = by_size[sizes[by_size] > 1]
        self._rows, self._starts, self._sizes = rows, starts[by_size], sizes[by_size]
        self.n_grouped = int(self._sizes.sum())
        self.n_others = self.n_grouped - len(self)
        self._is_chained = (kept >= 0) & (kept != np.arange(len(kept))) & (near < np.float32(nearness.least - 1e-6))
        self.n_chained = int(self._is_chained.sum())

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Group]:
        store = self._searcher.store
        for first in range(0, len(self), _GROUPS_AT_ONCE):
            some = [self._rows_of(n) for n in range(first, min(first + _GROUPS_AT_ONCE, len(self)))]
            rows = np.concatenate(some)
            scores = np.asarray(self.nearness.of_scores(self._near[rows]), np.float32)
            hits = iter(store.hits(rows, scores))
            for members in some:
                kept = next(hits)
                others = [next(hits) for _ in members[1:]]
                yield Group(
                    Hit(kept.id, float("nan"), 1, kept.metadata, kept.uri),
                    [Hit(hit.id, hit.score, n, hit.metadata, hit.uri) for n, hit in enumerate(others, start=2)],
                    int(self._is_chained[members].sum()),
                )

    def _rows_of(self, n: int) -> Rows:
        return self._rows[self._starts[n] : self._starts[n] + self._sizes[n]]

    def counts(self) -> dict[str, object]:
        """What was found, in numbers."""
        return {
            "n_items": self.n_items,
            "n_groups": len(self),
            "n_grouped": self.n_grouped,
            "n_others": self.n_others,
            "n_chained": self.n_chained,
            "is_exact": self.is_exact,
            "limit": self.nearness.limit,
            "metric": str(self.nearness.metric),
        }

    def save_sheet(self, path: str | Path) -> None:
        """Draws the largest groups as one picture, a row a group, the kept item first. Raises UsageError for a path
        that is no picture's."""
        from embedsearch.pipeline.duplicates.sheet import draw_groups

        draw_groups(self, self._searcher.manifest.recipe.modality, Path(path))

    def ids_to_drop(self, *, chained: bool = False) -> Iterator[str]:
        """The ids of all but the kept item of each group; of chained items only where that is asked for."""
        for n in range(len(self)):
            others = self._rows_of(n)[1:]
            if not chained:
                others = others[~self._is_chained[others]]
            yield from self._searcher.store.ids_at(others).tolist()
