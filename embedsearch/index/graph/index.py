"""The graph family: 8-bit codes walked along links, ranked by what the codes leave out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.index.allowed import MadeOnce
from embedsearch.index.base import Rows, Scores, SearchParams, VectorIndex
from embedsearch.index.graph import asking
from embedsearch.index.graph.codes import LANES, MOST_AXES, Codec
from embedsearch.index.graph.nodes import Nodes
from embedsearch.index.graph.regions import N_COORDINATES, Regions, n_regions
from embedsearch.index.growth import GROWTHS, grown
from embedsearch.types import Metric
from embedsearch.vectors import Matrix

if TYPE_CHECKING:
    from embedsearch.index.graph.arrays import Links
    from embedsearch.index.graph.filling import Filling
    from embedsearch.index.graph.linking import Linker

DEGREE = 48
EF_CONSTRUCTION = 100
ALPHA_PERCENT = 120
EF_SEARCH = 64
# what residuals of one byte leave of a vector costs recall, so a higher promise takes two
ONE_BYTE_MAX_RECALL = 0.99
_EFFORTS = (10, 12, 14, 17, 20, 24, 28, 34, 40, 48, 56, 68, 80, 96, 112, 136, 160, 224, 320, 448, 640, 896, 1280)


class GraphIndex(VectorIndex):
    """A navigable graph over two-part codes (see codes.py, linking.py, walk.py).

    Build parameters: n (vectors to come), degree (links a node at most), ef_construction (beam of the walks that
    find them), alpha_percent (see insert.py), residual_bytes (a dimension, 1 or 2). Search parameters: ef_search, the
    beam; k_growth_percent (see growth.py). Scores come from decoded vectors: under cosine they are off by about 1e-4.
    """

    family: ClassVar[str] = "graph"
    exact: ClassVar[bool] = False
    suffix: ClassVar[str] = ".graph"
    holds_out = True
    growths = GROWTHS

    def __init__(self, metric: Metric, dim: int, build: Mapping[str, Any], nodes: Nodes | None = None) -> None:
        super().__init__(metric)
        self._dim = dim
        self._build = build
        self._filling: Filling | None = None
        self._nodes = nodes
        self._apart = np.empty(0, np.int64)
        self._later: tuple[Linker, Links] | None = None
        self._allowed = MadeOnce(lambda allowed: asking.Among.of(self._finished(), allowed))

    @classmethod
    def plan(cls, n: int, dim: int, recall: float) -> dict[str, Any]:
        return {
            "n": n,
            "degree": DEGREE,
            "ef_construction": EF_CONSTRUCTION,
            "alpha_percent": ALPHA_PERCENT,
            "residual_bytes": 1 if recall <= ONE_BYTE_MAX_RECALL else 2,
        }

    @classmethod
    def usual_search(cls) -> dict[str, int]:
        return {"ef_search": EF_SEARCH}

    @classmethod
    def planned_bytes(cls, n: int, dim: int, build: Mapping[str, Any]) -> float:
        head = min(-(-dim // LANES) * LANES, MOST_AXES)
        return n * (head + int(build["residual_bytes"]) * dim + 4.0 * int(build["degree"]) + 12)

    @classmethod
    def create(cls, dim: int, metric: Metric, params: Mapping[str, Any]) -> Self:
        return cls(metric, dim, params)

    @classmethod
    def load(cls, path: Path, metric: Metric) -> Self:
        nodes = Nodes.load(path, metric)
        return cls(metric, nodes.codec.dim - (metric is Metric.IP), {}, nodes)

    def save(self, path: Path) -> list[Path]:
        self._finished().save(path)
        return [path]

    @property
    def needs_training(self) -> bool:
        return self._filling is None and self._nodes is None

    def train(self, xt: Matrix) -> None:
        if self.needs_training:
            from embedsearch.index.graph.filling import Filling  # compiles

            xt = xt if len(xt) else np.zeros((1, self._dim), np.float32)
            codec = Codec.fit(xt, self.metric)
            regions = Regions.fit(codec.leading(xt, N_COORDINATES), n_regions(self._build.get("n", len(xt))))
            self._filling = Filling(codec, regions, int(self._build.get("residual_bytes", 1)))

    def add(self, xb: Matrix) -> None:
        assert self._filling is not None
        if len(xb):
            self._filling.add(xb)

    def hold_out(self, rows: Rows) -> None:
        self._apart = rows

    def complete(self, report: Callable[[int], None]) -> None:
        assert self._filling is not None
        degree = int(self._build.get("degree", DEGREE))
        beam = int(self._build.get("ef_construction", EF_CONSTRUCTION))
        alpha = float(self._build.get("alpha_percent", ALPHA_PERCENT)) / 100
        nodes, linker, apart = self._filling.finish(degree, beam, alpha, self._apart)
        linker.link(np.setdiff1d(np.arange(len(nodes), dtype=np.int32), apart, assume_unique=True), report)
        self._nodes, self._filling = nodes, None
        self._later = (linker, apart) if len(apart) else None

    def admit(self, report: Callable[[int], None]) -> None:
        if self._later is not None:
            linker, apart = self._later
            linker.link(apart, report)
            self._nodes, self._later = self._finished().admitted(), None

    def search(
        self, xq: Matrix, k: int, params: SearchParams, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Scores, Rows]:
        among = None if allowed is None else self._allowed.of(allowed)
        return asking.search(self._finished(), xq, k, grown(params.get("ef_search", EF_SEARCH), k, params), among)

    def efforts(self, k: int) -> list[dict[str, int]]:
        return [{"ef_search": ef} for ef in _EFFORTS if ef >= k]

    def _finished(self) -> Nodes:
        if self._nodes is None:
            raise RuntimeError("the graph is not complete")
        return self._nodes

    def __len__(self) -> int:
        if self._nodes is not None:
            return len(self._nodes)
        return 0 if self._filling is None else self._filling.n

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def bytes_per_vector(self) -> float:
        nodes = self._finished()
        whole = (nodes.heads, nodes.residuals, nodes.scales, nodes.norms, nodes.links, nodes.rows)
        return float(sum(part.nbytes for part in whole)) / max(len(nodes), 1)
