"""Comparing queries with vectors that lie on disk."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.index.ivf.vectors_file import Half, Places
from embedsearch.types import Metric
from embedsearch.vectors import Matrix, faiss_metric

_SCAN_BYTES = 2**23


class Ranking:
    """Vectors on disk as FAISS compares them with queries: a few of them, or a scan of many.

    vectors: float16 N x D. Inner products or squared distances are float32 sums.
    """

    def __init__(self, vectors: Half, metric: Metric) -> None:
        import faiss

        self.vectors = vectors
        self._metric = metric
        self.index: Any = faiss.IndexScalarQuantizer(
            vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss_metric(metric)
        )
        if len(vectors):
            # FAISS reads its codes from the mapped file; that nobody owns them leaves the file to this object
            holder: Any = type(self.index.codes)
            codes = vectors.view(np.uint8).reshape(-1)
            self.index.codes = holder.create_view(faiss.swig_ptr(codes), codes.size, holder().owner)
        self.index.ntotal = len(vectors)

    def scan(self, xq: Matrix, k: int, among: Places | None) -> tuple[NDArray[np.float32], Places]:
        """The k best of the places `among` (ascending; None for all) for each query: exact but for float16.

        Each vector is read once for all queries, a few MiB at a time. The end is -1 where there are fewer than k.
        """
        import faiss

        n = len(self.vectors) if among is None else len(among)
        keep = faiss.ResultHeap(len(xq), k, keep_max=self._metric.higher_is_better)
        n_rows = max(_SCAN_BYTES // (4 * self.vectors.shape[1]), 1)
        for start in range(0, n, n_rows):
            block = slice(start, start + n_rows) if among is None else among[start : start + n_rows]
            x = self.vectors[block].astype(np.float32)
            D, I = faiss.knn(xq, x, min(k, len(x)), metric=faiss_metric(self._metric))  # noqa: E741
            keep.add_result(D, I + start if among is None else among[start + I])
        keep.finalize()
        return keep.D, keep.I
