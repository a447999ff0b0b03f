"""What the families that are one FAISS index have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from embedsearch.errors import DamagedIndexError
from embedsearch.index import parts
from embedsearch.index.allowed import MadeOnce, Selected
from embedsearch.index.base import Rows, Scores, SearchParams, VectorIndex
from embedsearch.types import Metric
from embedsearch.vectors import Matrix, faiss_metric


class FaissIndex(VectorIndex):
    """One FAISS index in one FAISS file. Rows that are held out are added last, and put in their places then."""

    def __init__(self, faiss_index: Any, metric: Metric) -> None:
        super().__init__(metric)
        self._faiss = faiss_index
        self._apart: Rows | None = None  # rows that are held out, ascending
        self._row_at = np.empty(0, np.int64)  # of each position, while there are such
        self._kept: list[Matrix] = []
        self._allowed = MadeOnce(Selected.of)
        if faiss_index.metric_type != faiss_metric(metric):
            raise DamagedIndexError(f"the index compares by FAISS metric {faiss_index.metric_type}, not {metric}")

    @classmethod
    @abstractmethod
    def create(cls, dim: int, metric: Metric, params: Mapping[str, Any]) -> Self: ...

    @classmethod
    def load(cls, path: Path, metric: Metric) -> Self:
        import faiss

        try:
            return cls(faiss.read_index(str(path)), metric)
        except RuntimeError as error:
            raise DamagedIndexError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error

    def save(self, path: Path) -> list[Path]:
        import faiss

        faiss.write_index(self._faiss, str(path))
        return [path]

    @property
    def needs_training(self) -> bool:
        return not self._faiss.is_trained

    def train(self, xt: Matrix) -> None:
        if self.needs_training:
            self._faiss.train(xt if len(xt) else np.zeros((1, self.dim), np.float32))

    def reserve(self, n: int) -> None:
        import faiss

        storage: Any = self._faiss
        for inner in ("storage", "index"):  # of a graph, of a transform
            if hasattr(storage, inner):
                storage = faiss.downcast_index(getattr(storage, inner))
        # growing and shrinking leaves the capacity behind
        storage.codes.resize(n * int(storage.code_size))
        storage.codes.resize(0)

    def hold_out(self, rows: Rows) -> None:
        self._apart = np.sort(rows)

    def add(self, xb: Matrix) -> None:
        if self._apart is None:
            self._faiss.add(xb)
            return
        start = len(self._row_at) + sum(map(len, self._kept))
        rows = np.arange(start, start + len(xb))
        is_apart = np.isin(rows, self._apart)
        self._faiss.add(xb[~is_apart])
        self._kept.append(xb[is_apart])
        self._row_at = np.concatenate([self._row_at, rows[~is_apart]])

    def search_others(self, xq: Matrix, own: Rows, k: int, params: SearchParams) -> tuple[Scores, Rows]:
        D, positions = super().search_others(xq, own, k, params)
        return D, positions if self._apart is None else np.where(positions >= 0, self._row_at[positions], -1)

    def admit(self, report: Callable[[int], None]) -> None:
        if self._apart is None:
            return
        for block in self._kept:
            self._faiss.add(block)
        parts.permute(self._faiss, np.argsort(np.concatenate([self._row_at, self._apart]), kind="stable"))
        self._apart, self._row_at, self._kept = None, np.empty(0, np.int64), []

    def __len__(self) -> int:
        return int(self._faiss.ntotal)

    @property
    def dim(self) -> int:
        return int(self._faiss.d)

    @property
    def bytes_per_vector(self) -> float:
        return 4.0 * self.dim
