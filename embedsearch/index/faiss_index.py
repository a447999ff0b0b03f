"""What the families that are one FAISS index have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from embedsearch.errors import DamagedIndexError
from embedsearch.index.base import VectorIndex
from embedsearch.types import Metric
from embedsearch.vectors import Matrix, faiss_metric


class FaissIndex(VectorIndex):
    """One FAISS index in one FAISS file."""

    def __init__(self, faiss_index: Any, metric: Metric) -> None:
        super().__init__(metric)
        self._faiss = faiss_index
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

    def add(self, xb: Matrix) -> None:
        self._faiss.add(xb)

    def __len__(self) -> int:
        return int(self._faiss.ntotal)

    @property
    def dim(self) -> int:
        return int(self._faiss.d)

    @property
    def bytes_per_vector(self) -> float:
        return 4.0 * self.dim
