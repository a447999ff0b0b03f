"""A score as a sum over pairs of places, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedsearch.pipeline.explain.parts import joined, spread_grid
from embedsearch.types import Metric

Floats = NDArray[np.float64]
MOST_PAIRS = 8
_SMALL_REST = 0.1
_REGIONS = 8  # along a side, at most: what pairs of pictures are told by


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two items, and its P places.

    label: what was asked, or the id. grid: (H, W) of the first H * W places of a picture, row by row, else None.
    box: left, top, right, bottom of the square that the network saw, in pixels of the upright picture of `size` (width,
    height); it reaches beyond the picture where that was padded. words: of each place of a text the word, of places
    after a grid their name. spans: int64 P x 2, where each word begins and ends in `text`, -1 for special tokens. read:
    the characters that the network read.
    """

    label: str
    n_places: int
    grid: tuple[int, int] | None = None
    box: tuple[float, float, float, float] | None = None
    size: tuple[int, int] | None = None
    picture: Image.Image | None = None
    text: str | None = None
    words: tuple[str, ...] = ()
    spans: NDArray[np.int64] | None = None
    read: tuple[int, int] | None = None

    def cell_box(self, grid: tuple[int, int], cell: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of one cell of a grid over the square, in pixels of the upright picture."""
        assert self.box is not None
        left, top, right, bottom = self.box
        row, column = divmod(cell, grid[1])
        across, down = (right - left) / grid[1], (bottom - top) / grid[0]
        return left + column * across, top + row * down, left + (column + 1) * across, top + (row + 1) * down

    def boxes(self) -> Floats | None:
        """The boxes of the places of a picture: float64 P x 4; NaN for those that are nowhere in it."""
        if self.grid is None:
            return None
        found = np.full((self.n_places, 4), np.nan)
        n = self.grid[0] * self.grid[1]
        found[:n] = [self.cell_box(self.grid, cell) for cell in range(n)]
        return found


@dataclass(frozen=True, slots=True)
class Pair:
    """Two regions or words that match. query, item: their number among the regions or places. share: what they add to
    the likeness."""

    query: int
    item: int
    share: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an item has its score for a query.

    score: as a search gives it, from the stored vector. pairs: float64 P x Q, what each place of the query and each of
    the item add to the inner product x . y. query_mean (P), item_mean (Q), means: what they add together with the
    other's share of a projection's mean, and both of those shares; 0 without PCA or whitening. lengths: x . x + y . y,
    which a squared distance begins with; 0 for other metrics. split: how the pooling was split, in words. notes: what
    else there is to know.
    """

    metric: Metric
    score: float
    query: Side
    item: Side
    pairs: Floats
    query_mean: Floats
    item_mean: Floats
    means: float
    lengths: float
    split: str
    notes: tuple[str, ...] = ()

    @property
    def likeness(self) -> float:
        """x . y, the sum of all pairs and of the means' shares."""
        return float(self.pairs.sum() + self.query_mean.sum() + self.item_mean.sum() + self.means)

    @property
    def total(self) -> float:
        """What the parts sum to, in the unit of the score: x . y, or of a squared distance x.x + y.y - 2 x.y."""
        return self.lengths - 2 * self.likeness if self.metric is Metric.L2 else self.likeness

    @property
    def whole(self) -> float | None:
        """What shares are told in per cent of: x . y, or None where that is below 0 or a small rest of large parts, of
        which per cents would say nothing."""
        return self.likeness if self.likeness > _SMALL_REST * abs(float(self.pairs.sum())) else None

    @property
    def rounding(self) -> float:
        """What the score has beside the sum: the parts are computed anew, in the network's precision."""
        return self.score - self.total

    @property
    def query_shares(self) -> Floats:
        """What each place of the query adds to x . y, float64 P."""
        return np.asarray(self.pairs.sum(axis=1) + self.query_mean)

    @property
    def item_shares(self) -> Floats:
        """What each place of the item adds to x . y, float64 Q."""
        return np.asarray(self.pairs.sum(axis=0) + self.item_mean)

    @property
    def regions(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Of pictures, the grids that strongest pairs are told by, of the query and of the item."""
        if self.query.grid is None or self.item.grid is None:
            return None
        mine, theirs = self.query.grid, self.item.grid
        return (
            (joined(mine[0], _REGIONS), joined(mine[1], _REGIONS)),
            (joined(theirs[0], _REGIONS), joined(theirs[1], _REGIONS)),
        )

    def strongest(self, n: int = MOST_PAIRS) -> list[Pair]:
        """The n pairs that add most: of words, or of regions of pictures (see `regions`).

        Each word is in one pair only, and regions keep a distance from those of other pairs.
        """
        regions = self.regions
        pairs = self.pairs
        if regions is not None:
            assert self.query.grid is not None and self.item.grid is not None
            left, right = spread_grid(self.query.grid, regions[0]), spread_grid(self.item.grid, regions[1])
            pairs = left @ pairs[: left.shape[1], : right.shape[1]] @ right.T
        free = pairs.copy()
        found: list[Pair] = []
        while len(found) < n and np.isfinite(free).any():
            query, item = divmod(int(np.argmax(free)), free.shape[1])
            if free[query, item] <= 0:
                break
            found.append(Pair(query, item, float(pairs[query, item])))
            free[_near(query, regions and regions[0])] = -np.inf
            free[:, _near(item, regions and regions[1])] = -np.inf
        return found

    def save(self, path: str | Path) -> None:
        """Draws it as .png, .jpg, .webp or .html, or keeps the arrays as .npz. Raises UsageError for other suffixes."""
        from embedsearch.pipeline.explain.saving import save

        save(self, Path(path))

    def to_dict(self) -> dict[str, Any]:
        """As plain data: the score, its parts' sums, and the strongest pairs."""
        regions = self.regions
        return {
            "query": self.query.label,
            "id": self.item.label,
            "metric": str(self.metric),
            "score": round(self.score, 6),
            "parts": {
                "pairs": round(float(self.pairs.sum()), 6),
                "mean": round(float(self.query_mean.sum() + self.item_mean.sum() + self.means), 6),
                "lengths": round(self.lengths, 6),
                "sum": round(self.total, 6),
                "rounding": round(self.rounding, 6),
            },
            "split": self.split,
            "pairs": [
                {
                    "share": round(pair.share, 6),
                    "query": _told(self.query, regions and regions[0], pair.query),
                    "item": _told(self.item, regions and regions[1], pair.item),
                }
                for pair in self.strongest()
            ],
            "notes": list(self.notes),
        }


def _near(place: int, grid: tuple[int, int] | None) -> NDArray[np.int64]:
    """A region and those around it; of words the word alone."""
    if grid is None:
        return np.array([place])
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    row, column = divmod(place, grid[1])
    return np.flatnonzero((abs(rows - row) <= 1) & (abs(columns - column) <= 1))


def _told(side: Side, grid: tuple[int, int] | None, number: int) -> dict[str, Any]:
    if grid is not None:
        return {"box": [round(edge, 1) for edge in side.cell_box(grid, number)]}
    told: dict[str, Any] = {"word": side.words[number]}
    if side.spans is not None and side.spans[number, 0] >= 0:
        told |= {"start": int(side.spans[number, 0]), "end": int(side.spans[number, 1])}
    return told
