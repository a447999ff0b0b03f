"""From the features of one item to its final vector as a sum over places. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedsearch.config import Recipe
from embedsearch.pooling.shares import Places, Share, pooled, pooling_shares
from embedsearch.postprocess import Postprocess

Array = NDArray[np.float64]

MOST_SIDE = 32  # places along a side; finer maps are joined, of which the sums are as exact


@dataclass(frozen=True, slots=True)
class Spread:
    """One layer of one view. shares: what its T places give to the pooled vector. at: float64 P x T, how each of them
    is spread over the item's P places; its columns sum to 1."""

    shares: list[Share]
    at: Array


@dataclass(frozen=True, slots=True)
class Parts:
    """An item's final vector as a sum: what `spreads` hold of each place, times `scale`, through `matrix`; and `rest`.

    matrix: D x d of a projection, else None. rest: float64 d, the share of the projection's mean, else None.
    """

    spreads: list[Spread]
    n_places: int
    scale: float
    matrix: Array | None = None
    rest: Array | None = None

    def vector(self) -> Array:
        """The final vector, float64 d."""
        if self.matrix is not None:
            return np.asarray(self.projected().sum(axis=0) + self.rest)
        return pooled([share for spread in self.spreads for share in spread.shares]) * self.scale

    def projected(self) -> Array:
        """What each place gives to the projected vector: float64 P x d."""
        assert self.matrix is not None
        total = np.zeros((self.n_places, self.matrix.shape[1]))
        for spread in self.spreads:
            for share in spread.shares:
                rows = self.matrix[share.start : share.start + share.width]
                if share.apart:
                    each = rows.reshape(*share.values.shape, -1)
                    given = np.einsum("tc,tcd->td", share.values, each)
                else:
                    given = share.values @ rows
                total += spread.at[:, share.places] @ given
        return total * self.scale


def parts_of(views: Sequence[Sequence[tuple[Places, Array]]], recipe: Recipe, postprocess: Postprocess) -> Parts:
    """The parts of an item. views: for each view, for each layer that is pooled, its places and how they are spread
    (see `Spread.at`).

    Raises UsageError for a pooling that has no split over places.
    """
    weights = recipe.layer_weights or (1.0,) * len(views[0])
    spreads = []
    for layers in views:
        split = [pooling_shares(places, recipe.pooling, gem_p=recipe.gem_p) for places, _ in layers]
        if len(split) > 1:
            starts = np.cumsum([0, *(len(pooled(shares)) for shares in split)])
            split = [
                _scaled(shares, weight * _inverse_norm(pooled(shares)), int(start))
                for shares, weight, start in zip(split, weights, starts[:-1], strict=True)
            ]
        if len(views) > 1:
            own = pooled([share for shares in split for share in shares])
            split = [_scaled(shares, _inverse_norm(own) / len(views)) for shares in split]
        spreads += [Spread(shares, at) for shares, (_, at) in zip(split, layers, strict=True)]
    n_places = spreads[0].at.shape[0]
    total = pooled([share for spread in spreads for share in spread.shares])
    scale = _inverse_norm(total) if postprocess.normalize else 1.0
    projection = postprocess.projection
    if projection is None:
        return Parts(spreads, n_places, scale)
    matrix = projection.matrix.astype(np.float64)
    mean = projection.mean.astype(np.float64) @ matrix
    parts = Parts(spreads, n_places, scale, matrix, -mean)
    if not postprocess.normalize:
        return parts
    again = _inverse_norm(parts.vector())
    return replace(parts, scale=scale * again, rest=-mean * again)


def pairs_of(a: Parts, b: Parts) -> Array:
    """The inner product of two items' places, pair by pair: float64 Pa x Pb. The rests are left out."""
    if a.matrix is not None:
        return np.asarray(a.projected() @ b.projected().T)
    total = np.zeros((a.n_places, b.n_places))
    for mine in a.spreads:
        for theirs in b.spreads:
            for one in mine.shares:
                for other in theirs.shares:
                    if one.start == other.start:  # what gives to other dimensions has no product with it
                        total += _product(one, mine.at, other, theirs.at)
    return total * (a.scale * b.scale)


def _product(one: Share, at_one: Array, other: Share, at_other: Array) -> Array:
    left, right = at_one[:, one.places], at_other[:, other.places]
    if one.apart:
        return np.asarray((left * np.einsum("tc,tc->t", one.values, other.values)) @ right.T)
    return np.asarray((left @ one.values) @ (right @ other.values).T)


def _scaled(shares: list[Share], factor: float, start: int = 0) -> list[Share]:
    return [replace(share, start=share.start + start, values=share.values * factor) for share in shares]


def _inverse_norm(x: Array) -> float:
    norm = float(np.linalg.norm(x))
    return 1.0 / norm if norm > 0 else 0.0


def joined(side: int, most: int) -> int:
    """How many cells a side of `side` places is joined to, so that at most `most` of equal size are left."""
    return -(-side // -(-side // most))


def spread_over(n: int, cells: int, *, mirrored: bool = False) -> Array:
    """How n equal pieces of a line lie on `cells` equal cells of it: float64 cells x n, columns sum to 1."""
    edges, pieces = np.linspace(0, 1, cells + 1), np.linspace(0, 1, n + 1)
    low = np.maximum(edges[:-1, None], pieces[None, :-1])
    high = np.minimum(edges[1:, None], pieces[None, 1:])
    common = np.maximum(high - low, 0)
    found: Array = (common / common.sum(axis=0)).astype(np.float64)
    return found[:, ::-1] if mirrored else found


def spread_grid(grid: tuple[int, int], cells: tuple[int, int], *, mirrored: bool = False) -> Array:
    """How the places of a map lie on a coarser or finer grid: float64 (cells) x (H * W)."""
    if grid == cells and not mirrored:
        return np.eye(grid[0] * grid[1])
    down, across = spread_over(grid[0], cells[0]), spread_over(grid[1], cells[1], mirrored=mirrored)
    return np.kron(down, across).astype(np.float64)
