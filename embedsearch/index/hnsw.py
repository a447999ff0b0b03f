"""A graph over the vectors, walked from coarse to fine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.index.base import SearchParams
from embedsearch.index.faiss_index import FaissIndex
from embedsearch.index.flat import search_allowed
from embedsearch.index.growth import GROWTHS, MOST_IN_BEAM, grown
from embedsearch.index.walking import walk_among
from embedsearch.types import Metric
from embedsearch.vectors import Matrix, faiss_metric

M = 16
EF_CONSTRUCTION = 200
EF_SEARCH = 128
EFFORTS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)


class HNSWIndex(FaissIndex):
    """FAISS IndexHNSWFlat: Malkov & Yashunin, "Efficient and robust approximate nearest neighbor search
    using Hierarchical Navigable Small World graphs" (2018).

    Build parameters: M (links a node), ef_construction. Search parameters: ef_search, k_growth_percent (see growth.py).
    """

    family: ClassVar[str] = "hnsw"
    exact: ClassVar[bool] = False
    holds_out = True
    growths = GROWTHS

    @classmethod
    def plan(cls, n: int, dim: int, recall: float) -> dict[str, Any]:
        return {"M": M, "ef_construction": EF_CONSTRUCTION}

    @classmethod
    def usual_search(cls) -> dict[str, int]:
        return {"ef_search": EF_SEARCH}

    @classmethod
    def planned_bytes(cls, n: int, dim: int, build: Mapping[str, Any]) -> float:
        return n * (4.0 * dim + 4.0 * (2 * int(build["M"]) + 1) + 8)

    @classmethod
    def create(cls, dim: int, metric: Metric, params: Mapping[str, Any]) -> Self:
        import faiss

        index = faiss.IndexHNSWFlat(dim, params.get("M", M), faiss_metric(metric))
        index.hnsw.efConstruction = params.get("ef_construction", EF_CONSTRUCTION)
        return cls(index, metric)

    def search(
        self, xq: Matrix, k: int, params: SearchParams, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        ef_search = grown(params.get("ef_search", EF_SEARCH), k, params)
        if allowed is None and ef_search > MOST_IN_BEAM:
            D, I = faiss_storage(self._faiss).search(xq, k)  # noqa: E741
            return D, I
        if allowed is None:
            D, I = self._faiss.search(xq, k, params=_parameters(ef_search))  # noqa: E741
            short = np.flatnonzero(I[:, -1] < 0)  # the walk met fewer
            if len(short):
                D[short], I[short] = faiss_storage(self._faiss).search(xq[short], k)
            return D, I
        chosen = self._allowed.of(allowed)
        return walk_among(
            lambda wide: self._faiss.search(xq, wide, params=_parameters(wide)),
            lambda those: search_allowed(faiss_storage(self._faiss), xq[those], k, chosen),
            len(xq),
            k,
            ef_search,
            chosen,
            self.metric,
        )

    def efforts(self, k: int) -> list[dict[str, int]]:
        return [{"ef_search": max(ef, k)} for ef in EFFORTS]

    @property
    def bytes_per_vector(self) -> float:
        # 2 M links of int32 on the ground floor, M on each higher one, of which a node has 1/(M-1) on average
        links = int(self._faiss.hnsw.nb_neighbors(0))
        return 4.0 * self.dim + 4.0 * links * (1 + 1 / max(links - 2, 1)) + 8


@lru_cache(maxsize=64)
def _parameters(ef_search: int) -> Any:
    import faiss

    return faiss.SearchParametersHNSW(efSearch=ef_search)  # type: ignore[attr-defined]


def faiss_storage(graph: Any) -> Any:
    """The flat index with the vectors of an HNSW index."""
    import faiss

    return faiss.downcast_index(graph.storage)
