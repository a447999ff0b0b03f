"""A graph while vectors are added to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.index.graph.arrays import Links, aligned
from embedsearch.index.graph.codes import Codec
from embedsearch.index.graph.linking import Linker
from embedsearch.index.graph.nodes import N_LONG, Nodes
from embedsearch.index.graph.regions import N_BUILD_ENTRIES, N_COORDINATES, Regions
from embedsearch.types import Metric
from embedsearch.vectors import Matrix

_PARTS = ("heads", "residuals", "scales", "norms")


class Filling:
    """Codes of the rows added so far; `finish` makes nodes of them."""

    def __init__(self, codec: Codec, regions: Regions, residual_bytes: int) -> None:
        self.codec = codec
        self.residual_bytes = residual_bytes
        self.regions = regions
        self.n = 0
        self._blocks: dict[str, list[NDArray[Any]]] = {name: [] for name in (*_PARTS, "region", "distance", "length")}

    def add(self, x: Matrix) -> None:
        parts: tuple[NDArray[Any], ...] = self.codec.encode(x, self.residual_bytes)
        for name, part in zip(_PARTS, parts, strict=True):
            self._blocks[name].append(part)
        distance, region = self.regions.nearest(self.codec.leading(x, N_COORDINATES), 1)
        self._blocks["distance"].append(distance[:, 0])
        self._blocks["region"].append(region[:, 0].astype(np.int32))
        self._blocks["length"].append(np.einsum("nd,nd->n", x, x))
        self.n += len(x)

    def finish(self, degree: int, beam: int, alpha: float, apart: NDArray[np.int64]) -> tuple[Nodes, Linker, Links]:
        """Nodes in the order of their regions, nearest to the centre first, the long ones last; what links them, and
        those of the rows `apart`, which are no entries, and no long ones yet. Nothing is linked yet."""
        region, length = self._joined("region"), self._joined("length")
        rows = np.lexsort((self._joined("distance"), region)).astype(np.int32)
        n_long = min(N_LONG, self.n) if self.codec.metric is Metric.IP else 0
        is_long = np.zeros(self.n, np.bool_)
        is_long[np.argsort(-length, kind="stable")[:n_long]] = True
        is_apart = np.zeros(self.n, np.bool_)
        is_apart[apart] = True
        # the last nodes are the long ones, and the last of those the ones that are no answers later than others
        rows = rows[np.lexsort((~is_apart[rows] & is_long[rows], is_long[rows]))]
        region = region[rows]
        others = np.flatnonzero(~is_apart[rows])
        # the node nearest to a centre is where its region is entered; of a region without nodes, the next one's
        others = others[np.argsort(region[others], kind="stable")]
        first = np.searchsorted(region[others], np.arange(len(self.regions))).clip(max=max(len(others) - 1, 0))
        doors = others[first].astype(np.int32)
        heads, residuals, scales, norms = (self._ordered(name, rows) for name in _PARTS)
        _, near = self.regions.nearest(self.regions.centres, N_BUILD_ENTRIES)
        links = aligned((self.n, degree), np.int32)
        n_long -= int(is_apart[is_long].sum())
        held = np.flatnonzero(is_apart[rows]).astype(np.int32)
        nodes = Nodes(self.codec, self.regions, rows, heads, residuals, scales, norms, links, doors, n_long, held)
        return nodes, Linker(nodes.graph, doors[near][region], beam, alpha), held

    def _joined(self, name: str) -> NDArray[Any]:
        return np.concatenate(self._blocks.pop(name))

    def _ordered(self, name: str, rows: NDArray[np.int32]) -> NDArray[Any]:
        """The part of all rows in the order of nodes; the blocks are freed as they are read."""
        blocks = self._blocks.pop(name)
        place = np.empty(self.n, np.int32)
        place[rows] = np.arange(self.n, dtype=np.int32)
        found = aligned((self.n, *blocks[0].shape[1:]), blocks[0].dtype)
        start = 0
        blocks.reverse()
        while blocks:
            block = blocks.pop()
            found[place[start : start + len(block)]] = block
            start += len(block)
        return found
