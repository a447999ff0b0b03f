"""Exact search over all vectors."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.index.allowed import Selected
from embedsearch.index.base import SearchParams
from embedsearch.index.faiss_index import FaissIndex
from embedsearch.types import Metric
from embedsearch.vectors import Matrix, faiss_metric


class FlatIndex(FaissIndex):
    """FAISS IndexFlat: every vector is compared with the query.

    Under l2 the vectors are centred first, which changes no distance: for a batch FAISS computes
    |q|² - 2 q·x + |x|², and far from the origin nothing but rounding would be left of that.
    """

    family: ClassVar[str] = "flat"
    exact: ClassVar[bool] = True

    @classmethod
    def create(cls, dim: int, metric: Metric, params: Mapping[str, Any]) -> Self:
        import faiss

        flat = faiss.IndexFlat(dim, faiss_metric(metric))
        if metric is not Metric.L2:
            return cls(flat, metric)
        return cls(faiss.IndexPreTransform(faiss.CenteringTransform(dim), flat), metric)

    def search(
        self, xq: Matrix, k: int, params: SearchParams, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if allowed is None:
            D, I = self._faiss.search(xq, k)  # noqa: E741
        else:
            D, I = search_allowed(self._faiss, xq, k, self._allowed.of(allowed))  # noqa: E741
        return D, I

    def range_search(self, xq: Matrix, limit: float | None) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Scores and rows of all that score `limit` or better (None: of all), for each query, in no order."""
        worst = np.float32(-np.inf if self.metric.higher_is_better else np.inf)
        # FAISS leaves out what is as far as the radius
        radius = worst if limit is None else np.nextafter(np.float32(limit), worst)
        ends, D, I = self._faiss.range_search(xq, float(radius))  # noqa: E741
        return [(D[first:last], I[first:last]) for first, last in itertools.pairwise(ends.tolist())]


def search_allowed(
    exact_index: Any, xq: Matrix, k: int, allowed: Selected
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Exact search of a FAISS IndexFlat among some rows."""
    import faiss

    api: Any = faiss  # its stubs do not know what these classes take
    params = api.SearchParameters(sel=allowed.selector)
    if isinstance(exact_index, faiss.IndexPreTransform):
        params = api.SearchParametersPreTransform(index_params=params)
    D, I = exact_index.search(xq, k, params=params)  # noqa: E741
    return D, I
