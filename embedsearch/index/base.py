"""The contract of an index family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.types import Metric
from embedsearch.vectors import Matrix

SearchParams = Mapping[str, int]
Scores = NDArray[np.float32]
Rows = NDArray[np.int64]


MAPPED_SUFFIX = ".f16"  # of a file beside an index that is mapped into memory, and read where it is needed
# a search parameter of every family: how many answers are asked for beside those that are wanted, and for which no
# effort is to be made. They are the query itself, so that measuring with rows as queries is what a search does, or rows
# that are dead
N_EXTRA = "n_extra"


class VectorIndex(ABC):
    """Vectors float32 N x D in row order; rows are int64, counted from 0 in the order of adding.

    Filled once: create, train (on a sample), reserve, add (block by block), complete. Then searched from
    many threads: parameters travel with each call and nothing on the index changes.

    family: as registered. exact: search gives what brute force gives. suffix: of its file. holds_out: recall can only
    be measured with rows that are not in the index yet: a graph leads a row that it holds straight to its neighbours,
    which it does for no new query (docs/promises.md shows how much that would add). growths: values of K_GROWTH (see
    growth.py) among which one keeps a promise for more than ten answers, where that has to be measured.
    """

    family: ClassVar[str]
    exact: ClassVar[bool]
    suffix: ClassVar[str] = ".faiss"
    holds_out: bool = False
    growths: tuple[int, ...] = ()

    def __init__(self, metric: Metric) -> None:
        self.metric = metric

    @classmethod
    def plan(cls, n: int, dim: int, recall: float) -> dict[str, Any]:
        """Build parameters for n vectors of `dim` dimensions of which a search has to find the share `recall`."""
        return {}

    @classmethod
    def usual_search(cls) -> dict[str, int]:
        """Search parameters where nothing was measured to choose them by."""
        return {}

    @classmethod
    def planned_bytes(cls, n: int, dim: int, build: Mapping[str, Any]) -> float:
        """Memory that an index over n vectors will take, about; before any is there."""
        return 4.0 * n * dim

    @classmethod
    @abstractmethod
    def create(cls, dim: int, metric: Metric, params: Mapping[str, Any]) -> Self:
        """An empty index. params: build parameters of the family."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path, metric: Metric) -> Self:
        """Raises DamagedIndexError when the file cannot be read, or it has another metric."""

    @abstractmethod
    def save(self, path: Path) -> list[Path]:
        """Writes `path`, and what belongs beside it; the paths of all that was written.

        Raises RuntimeError or OSError when it cannot be written.
        """

    @property
    def needs_training(self) -> bool:
        """True while the index has to look at a sample of the vectors before any is added."""
        return False

    @property
    def training_rows(self) -> int:
        """How many rows, at most, `train` is to be given."""
        return 50_000

    def train(self, xt: Matrix) -> None:  # noqa: B027 - most have nothing to learn
        """Looks at a sample of the vectors; does nothing where that is not needed."""

    def work_in(self, folder: Path) -> None:  # noqa: B027
        """Called before the first add: where there is room for what is not kept in memory until it is saved. Without
        it, that is TMPDIR."""

    def reserve(self, n: int) -> None:  # noqa: B027
        """Takes memory for `n` vectors at once, so that adding them in blocks never holds a second copy."""

    @abstractmethod
    def add(self, xb: Matrix) -> None:
        """Appends rows."""

    def hold_out(self, rows: Rows) -> None:
        """Called before the first add where `holds_out`: these rows are added with all others, and no answers before
        `admit`."""
        raise NotImplementedError(f"{self.family} holds nothing out")

    def admit(self, report: Callable[[int], None]) -> None:  # noqa: B027
        """Called once, after what was held out has served to measure: now those rows are answers as well."""

    def complete(self, report: Callable[[int], None]) -> None:
        """Called once after the last add: what can be done only when all rows are there. report: is told how
        many more of the len(self) rows are done."""
        report(len(self))

    @abstractmethod
    def search(
        self, xq: Matrix, k: int, params: SearchParams, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Scores, Rows]:
        """Scores and rows of the k best for each query, both n x k, best first.

        k: at most len(self), and at most the number of rows that are allowed. allowed: bool per row; only rows
        where it is true are answers. A row of -1 fills the end where fewer were found.
        """

    def search_others(self, xq: Matrix, own: Rows, k: int, params: SearchParams) -> tuple[Scores, Rows]:
        """As `search`, for queries that are rows themselves and no answers to themselves; those that are held out are
        no answers at all.

        own: int64 n, the row of each query. Where fewer than k others are found the end is -1.
        """
        if self.holds_out:
            return self.search(xq, min(k, len(self)), params)
        return self.search_but_own(xq, own, k, params)

    def search_but_own(self, xq: Matrix, own: Rows, k: int, params: SearchParams) -> tuple[Scores, Rows]:
        """As `search_others`, of an index that holds the queries."""
        n = min(k + 1, len(self))
        D, I = self.search(xq, n, {**params, N_EXTRA: 1})  # noqa: E741
        others = np.argsort(own[:, None] == I, axis=1, kind="stable")[:, :k]  # the own row last
        D, I = np.take_along_axis(D, others, 1), np.take_along_axis(I, others, 1)  # noqa: E741
        I[own[:, None] == I] = -1
        return D, I

    def efforts(self, k: int) -> list[dict[str, int]]:
        """Search parameters from the cheapest to the most thorough, among which one keeps a promise of recall.

        k: how many answers will be asked for. Empty for exact families.
        """
        return []

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def dim(self) -> int:
        """Width of the vectors that are added and asked with."""

    @property
    @abstractmethod
    def bytes_per_vector(self) -> float:
        """Memory of the index for each vector it holds; ids and metadata not counted."""

    @property
    def disk_bytes_per_vector(self) -> float:
        """What a search reads from disk where it needs it, for each vector: files that are mapped, not loaded."""
        return 0.0
