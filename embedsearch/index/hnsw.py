"""A graph over the vectors, walked from coarse to fine."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar, Self

from embedsearch.index.base import SearchParams, VectorIndex
from embedsearch.types import Metric
from embedsearch.vectors import faiss_metric

M = 16
EF_CONSTRUCTION = 200
EF_SEARCH = 128


class HNSWIndex(VectorIndex):
    """FAISS IndexHNSWFlat: Malkov & Yashunin, "Efficient and robust approximate nearest neighbor search
    using Hierarchical Navigable Small World graphs" (2018).

    Build parameters: M (links a node), ef_construction. Search parameter: ef_search.
    """

    family: ClassVar[str] = "hnsw"
    exact: ClassVar[bool] = False

    @classmethod
    def create(cls, dim: int, metric: Metric, params: SearchParams) -> Self:
        import faiss

        index = faiss.IndexHNSWFlat(dim, params.get("M", M), faiss_metric(metric))
        index.hnsw.efConstruction = params.get("ef_construction", EF_CONSTRUCTION)
        return cls(index, metric)

    def search_parameters(self, k: int, params: SearchParams) -> Any:
        # fewer candidates than k would leave places empty
        return _parameters(max(params.get("ef_search", EF_SEARCH), k))

    @property
    def bytes_per_vector(self) -> float:
        # 2 M links of int32 on the ground floor, M on each higher one, of which a node has 1/(M-1) on average
        links = self._faiss.hnsw.nb_neighbors(0)
        return 4.0 * self.dim + 4.0 * links * (1 + 1 / max(links - 2, 1)) + 8


@lru_cache(maxsize=64)
def _parameters(ef_search: int) -> Any:
    import faiss

    return faiss.SearchParametersHNSW(efSearch=ef_search)
