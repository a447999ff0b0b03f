"""Pooling that looks at where on a map an activation is, or weighs places against one another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import normalize

from embedsearch.errors import UsageError
from embedsearch.pooling.functions import gem_pool, max_pool, mean_pool
from embedsearch.types import Features

_OVERLAP = 0.4  # of neighbouring regions of R-MAC, as its authors chose it


def rmac_pool(features: Features, levels: int = 3) -> torch.Tensor:
    """R-MAC of Tolias, Sicre & Jégou, "Particular object retrieval with integral max-pooling of CNN
    activations" (2016): the maximum of each region, L2-normalised, summed over regions of `levels` sizes.

    At level l there are l regions along the shorter side, each 2 * min(H, W) / (l + 1) wide. The
    whitening of every region, which the paper does in between, is left out; `--whiten` comes after.
    Raises UsageError for what is no map.
    """
    height, width = _grid(features, "rmac")
    maps = _unfolded(features.values, height, width)
    total = torch.zeros_like(features.values[:, 0])
    for top, left, side in rmac_regions(height, width, levels):
        region = maps[:, top : top + side, left : left + side].flatten(1, 2)
        total = total + normalize(max_pool(Features(region)), dim=1)
    return total


def rmac_regions(height: int, width: int, levels: int = 3) -> Iterator[tuple[int, int, int]]:
    """Top, left and side of the square regions of R-MAC on a map, in places."""
    short = min(height, width)
    more = _regions_along(max(height, width), short) - 1  # along the longer side than along the shorter one
    for level in range(1, levels + 1):
        side = max(1, 2 * short // (level + 1))
        rows = _starts(height, side, level + (more if height > width else 0))
        columns = _starts(width, side, level + (more if width > height else 0))
        yield from ((top, left, side) for top in rows for left in columns)


def _regions_along(long: int, short: int) -> int:
    """How many squares of the shorter side lie along the longer one with an overlap nearest to 40 %."""
    if long == short:
        return 1

    def distance(n: int) -> float:
        step = (long - short) / (n - 1)
        return abs((short - step) / short - _OVERLAP)

    return min(range(2, max(3, 2 * math.ceil(long / short) + 2)), key=distance)


def _starts(length: int, side: int, n: int) -> list[int]:
    if n == 1:
        return [(length - side) // 2]
    return [math.floor(i * (length - side) / (n - 1)) for i in range(n)]


def crow_pool(features: Features, eps: float = 1e-6) -> torch.Tensor:
    """CroW of Kalantidis, Mellina & Osindero, "Cross-dimensional Weighting for Aggregated Deep
    Convolutional Features" (2016): places weigh by the square root of their normalised total response,
    channels by how rarely they respond. Made for what follows a ReLU; negative activations count as zero.
    """
    values = features.values.clamp(min=0)
    if features.mask is not None:
        values = values * features.mask.unsqueeze(-1).to(values.dtype)
    places = values.sum(dim=2)  # B x T
    weight = (places / places.norm(dim=1, keepdim=True).clamp(min=eps)).sqrt()
    pooled = (values * weight.unsqueeze(-1)).sum(dim=1)
    n_places = values.shape[1] if features.mask is None else features.mask.sum(dim=1, keepdim=True).clamp(min=1)
    share = (values > 0).sum(dim=1) / n_places  # B x C: where each channel responds
    rarity = ((share.shape[1] * eps + share.sum(dim=1, keepdim=True)) / (eps + share)).log()
    weighted: torch.Tensor = pooled * rarity
    return weighted


def grid2_pool(features: Features) -> torch.Tensor:
    """The means of 2 x 2 cells, one after the other, so that place counts: B x 4C. The second level of
    the pyramid of Lazebnik, Schmid & Ponce, "Beyond Bags of Features" (2006), on maps as in He et al.,
    "Spatial Pyramid Pooling" (2015). Raises UsageError for what is no map."""
    return _cells(features, 2, "grid2x2", mean_pool)


def grid3_pool(features: Features) -> torch.Tensor:
    """The means of 3 x 3 cells, one after the other: B x 9C; see `grid2_pool`."""
    return _cells(features, 3, "grid3x3", mean_pool)


def gem_grid3_pool(features: Features, p: float = 3.0) -> torch.Tensor:
    """GeM of 3 x 3 cells, each L2-normalised so that a bright cell does not drown the others: B x 9C;
    see `grid2_pool` and `gem_pool`."""
    return _cells(features, 3, "gem-grid3x3", lambda cell: normalize(gem_pool(cell, p), dim=1))


def _cells(features: Features, n: int, name: str, pool: Callable[[Features], torch.Tensor]) -> torch.Tensor:
    """`pool` of n x n cells, row by row. Cells share a row or column where n does not divide the map."""
    height, width = _grid(features, name)
    maps = _unfolded(features.values, height, width)
    cells = [pool(Features(maps[:, rows, columns].flatten(1, 2))) for rows, columns in grid_cells(height, width, n)]
    return torch.cat(cells, dim=1)


def grid_cells(height: int, width: int, n: int) -> Iterator[tuple[slice, slice]]:
    """The rows and columns of each of n x n cells of a map, row by row."""
    for i in range(n):
        for j in range(n):
            yield (
                slice(i * height // n, -(-(i + 1) * height // n)),
                slice(j * width // n, -(-(j + 1) * width // n)),
            )


def _unfolded(values: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """B x T x C as B x H x W x C."""
    return values.reshape(values.shape[0], height, width, values.shape[2])


def _grid(features: Features, name: str) -> tuple[int, int]:
    if features.grid is None:
        raise UsageError(f"pooling {name!r} needs a map; this layer gives tokens or one vector, use mean, max or cls")
    return features.grid
