"""Each pooling as a sum over places: what every place gives to the pooled vector. numpy only, float64.

Mean, grids and flatten are linear, so the split is theirs. The others are split with what they take from the data held
fixed, which still sums to the pooled vector exactly: the maximum belongs to the place that attains it (in equal parts
to several), GeM to places by x^p / sum x^p, which is its first-order share; norms of regions and weights of CroW count
as numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import UsageError
from embedsearch.pooling.maps import grid_cells, rmac_regions
from embedsearch.registry import SHARES
from embedsearch.types import CONTENT

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Places:
    """The features of one item at one layer, without padding.

    values: float64 T x C. grid: (H, W) with H * W == T for maps, else None. roles: int8 T, as in `Features`, or None.
    """

    values: Array
    grid: tuple[int, int] | None = None
    roles: NDArray[np.int8] | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What some places give to some dimensions of a pooled vector.

    start: the first dimension. places: int n. values: float64 n x d, to dimensions start to start + d; with `apart`
    row i to d dimensions of its own, from start + i * d.
    """

    start: int
    places: NDArray[np.int64]
    values: Array
    apart: bool = False

    @property
    def width(self) -> int:
        """Dimensions that it gives to."""
        return int(self.values.size if self.apart else self.values.shape[1])

    def total(self) -> Array:
        """The sum over places: float64 of `width`."""
        total: Array = self.values.reshape(-1) if self.apart else self.values.sum(axis=0)
        return total


def pooling_shares(places: Places, pooling: str, *, gem_p: float = 3.0) -> list[Share]:
    """The pooled vector as shares of places, which sum to it; see `pooled`.

    Raises UsageError for a pooling that has no split over places.
    """
    if pooling not in SHARES:
        why = "it takes one token, which stands for the whole" if pooling == "cls" else "no split of it is registered"
        raise UsageError(
            f"pooling {pooling!r} cannot be explained by places: {why}; an index built with one of "
            f"{', '.join(SHARES)} can"
        )
    function = SHARES.get(pooling)
    takes_p = "p" in inspect.signature(function).parameters
    shares: list[Share] = function(places, p=gem_p) if takes_p else function(places)
    return shares


def pooled(shares: list[Share]) -> Array:
    """The sum of shares: float64 D."""
    total = np.zeros(max(share.start + share.width for share in shares))
    for share in shares:
        total[share.start : share.start + share.width] += share.total()
    return total


def mean_shares(places: Places) -> list[Share]:
    return [_everywhere(_mean(places.values))]


def mean_content_shares(places: Places) -> list[Share]:
    own = np.ones(len(places.values), bool) if places.roles is None else places.roles == CONTENT
    if not own.any():
        own[:] = True
    return [Share(0, np.flatnonzero(own), _mean(places.values[own]))]


def max_shares(places: Places) -> list[Share]:
    return [_everywhere(_max(places.values))]


def gem_shares(places: Places, p: float = 3.0) -> list[Share]:
    return [_everywhere(_gem(places.values, p))]


def flatten_shares(places: Places) -> list[Share]:
    return [Share(0, np.arange(len(places.values)), places.values, apart=True)]


def rmac_shares(places: Places) -> list[Share]:
    height, width = _grid(places, "rmac")
    numbers = np.arange(height * width).reshape(height, width)
    shares = []
    for top, left, side in rmac_regions(height, width):
        inside = numbers[top : top + side, left : left + side].reshape(-1)
        shares.append(Share(0, inside, _normalized(_max(places.values[inside]))))
    return shares


def crow_shares(places: Places, eps: float = 1e-6) -> list[Share]:
    values = np.maximum(places.values, 0)
    response = values.sum(axis=1)
    weight = np.sqrt(response / max(float(np.linalg.norm(response)), eps))
    share = (values > 0).mean(axis=0)
    rarity = np.log((len(share) * eps + share.sum()) / (eps + share))
    return [_everywhere(values * weight[:, None] * rarity)]


def grid2_shares(places: Places) -> list[Share]:
    return _cells(places, 2, "grid2x2", _mean)


def grid3_shares(places: Places) -> list[Share]:
    return _cells(places, 3, "grid3x3", _mean)


def gem_grid3_shares(places: Places, p: float = 3.0) -> list[Share]:
    return _cells(places, 3, "gem-grid3x3", lambda values: _normalized(_gem(values, p)))


def _cells(places: Places, n: int, name: str, split: Callable[[Array], Array]) -> list[Share]:
    height, width = _grid(places, name)
    numbers, n_channels = np.arange(height * width).reshape(height, width), places.values.shape[1]
    shares = []
    for number, (rows, columns) in enumerate(grid_cells(height, width, n)):
        inside = numbers[rows, columns].reshape(-1)
        shares.append(Share(number * n_channels, inside, split(places.values[inside])))
    return shares


def _everywhere(values: Array) -> Share:
    return Share(0, np.arange(len(values)), values)


def _mean(values: Array) -> Array:
    return values / len(values)


def _max(values: Array) -> Array:
    top = values.max(axis=0)
    attained = values == top
    return np.where(attained, top / attained.sum(axis=0), 0.0)


def _gem(values: Array, p: float, eps: float = 1e-6) -> Array:
    values = np.maximum(values, eps)
    top = values.max(axis=0)
    powers = (values / top) ** p
    split: Array = powers / powers.sum(axis=0) * powers.mean(axis=0) ** (1.0 / p) * top
    return split


def _normalized(split: Array) -> Array:
    # as torch.nn.functional.normalize, which divides by no less than 1e-12
    return split / max(float(np.linalg.norm(split.sum(axis=0))), 1e-12)


def _grid(places: Places, name: str) -> tuple[int, int]:
    if places.grid is None:
        raise UsageError(f"pooling {name!r} needs a map; this layer gives tokens or one vector")
    return places.grid
