"""Exact search over all vectors."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from embedsearch.index.base import SearchParams, VectorIndex
from embedsearch.types import Metric
from embedsearch.vectors import faiss_metric


class FlatIndex(VectorIndex):
    """FAISS IndexFlat: every vector is compared with the query."""

    family: ClassVar[str] = "flat"
    exact: ClassVar[bool] = True

    @classmethod
    def create(cls, dim: int, metric: Metric, params: SearchParams) -> Self:
        import faiss

        return cls(faiss.IndexFlat(dim, faiss_metric(metric)), metric)

    def search_parameters(self, k: int, params: SearchParams) -> Any:
        return None
