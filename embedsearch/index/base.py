"""The contract of an index family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import DamagedIndexError
from embedsearch.types import Metric
from embedsearch.vectors import Matrix, faiss_metric

SearchParams = Mapping[str, int]


class VectorIndex(ABC):
    """Vectors float32 N x D in row order; rows are int64, counted from 0 in the order of adding.

    family: as registered. exact: search gives what brute force gives. Safe to search from many
    threads: parameters travel with each call and nothing on the index changes.
    """

    family: ClassVar[str]
    exact: ClassVar[bool]

    def __init__(self, faiss_index: Any, metric: Metric) -> None:
        self._faiss = faiss_index
        self.metric = metric
        if faiss_index.metric_type != faiss_metric(metric):
            raise DamagedIndexError(f"the index compares by FAISS metric {faiss_index.metric_type}, not {metric}")

    @classmethod
    @abstractmethod
    def create(cls, dim: int, metric: Metric, params: SearchParams) -> Self:
        """An empty index. params: build parameters of the family."""

    @classmethod
    def load(cls, path: Path, metric: Metric) -> Self:
        """Raises DamagedIndexError when FAISS cannot read the file, or it has another metric."""
        import faiss

        try:
            return cls(faiss.read_index(str(path)), metric)
        except RuntimeError as error:
            raise DamagedIndexError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error

    def save(self, path: Path) -> None:
        import faiss

        faiss.write_index(self._faiss, str(path))

    @property
    def needs_training(self) -> bool:
        """True while the index has to look at a sample of the vectors before any is added."""
        return not self._faiss.is_trained

    def train(self, xt: Matrix) -> None:
        """Looks at a sample of the vectors; does nothing where that is not needed."""
        if self.needs_training:
            self._faiss.train(xt if len(xt) else np.zeros((1, self.dim), np.float32))

    def reserve(self, n: int) -> None:
        """Takes memory for `n` vectors at once, so that adding them in blocks never holds a second copy."""
        import faiss

        storage: Any = self._faiss
        for inner in ("storage", "index"):  # of a graph, of a transform
            if hasattr(storage, inner):
                storage = faiss.downcast_index(getattr(storage, inner))
        # growing and shrinking leaves the capacity behind
        storage.codes.resize(n * int(storage.code_size))
        storage.codes.resize(0)

    def add(self, xb: Matrix) -> None:
        """Appends rows."""
        self._faiss.add(xb)

    @abstractmethod
    def search(
        self, xq: Matrix, k: int, params: SearchParams, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and rows of the k best for each query, both n x k, best first.

        k: at most len(self). allowed: bool per row; only rows where it is true are answers. A row of -1
        fills the end where fewer were found.
        """

    def __len__(self) -> int:
        return int(self._faiss.ntotal)

    @property
    def dim(self) -> int:
        return int(self._faiss.d)

    @property
    def bytes_per_vector(self) -> float:
        """Memory of the index for each vector it holds; ids and metadata not counted."""
        return 4.0 * self.dim


def selector(allowed: NDArray[np.bool_]) -> Any:
    """FAISS's bitmap of the rows that may be answers; it keeps what it points to alive."""
    import faiss

    bits = np.packbits(allowed, bitorder="little")
    chosen: Any = faiss.IDSelectorBitmap(len(allowed), faiss.swig_ptr(bits))
    chosen.bits = bits
    return chosen
