"""The family for little memory and many vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import DamagedIndexError
from embedsearch.index.allowed import MadeOnce, Selected
from embedsearch.index.base import MAPPED_SUFFIX, N_EXTRA, Rows, Scores, SearchParams, VectorIndex
from embedsearch.index.ivf import lists, vectors_file
from embedsearch.index.ivf.efforts import (
    K_FACTOR,
    NPROBE,
    ROW_COST,
    Plan,
    efforts,
    lie_apart,
    lists_needed,
    plan_search,
    usual_candidates,
)
from embedsearch.index.ivf.ranking import Ranking
from embedsearch.index.ivf.scaling import Scaling
from embedsearch.index.ivf.vectors_file import Spool
from embedsearch.index.widening import probe_until_settled
from embedsearch.types import Metric
from embedsearch.vectors import Matrix, faiss_metric


@dataclass(frozen=True, slots=True)
class _AtPlaces:
    """What may be answers, by place. n_in, n_allowed_in: int64, how many places each list has, and of those chosen."""

    chosen: Selected
    n_in: NDArray[np.int64]
    n_allowed_in: NDArray[np.int64]


class IVFIndex(VectorIndex):
    """Codes of 4 bits in inverted lists find candidates, which are ranked by float16 vectors on disk.

    Build parameters: nlist (lists; by the size of the training sample where it is not given), width (dimensions
    that one code stands for, 1 to 4: fewer make larger codes that find more). Search parameters: nprobe (lists
    that are scanned), k_factor (candidates that are ranked, for each answer).

    In memory: the codes, and where each row is. On disk, beside the index: the vectors, in the order of the lists, so
    that candidates of one query lie close together; they are mapped, and read where they are needed. Scores are
    those of the float16 vectors, off by at most 0.0005 |q||x| (of squared distances 0.001; q and x less the mean).
    Until `save` the vectors lie in a temporary file and in the order of adding.
    """

    family: ClassVar[str] = "ivf"
    exact: ClassVar[bool] = False

    def __init__(self, metric: Metric, dim: int, build: Mapping[str, Any]) -> None:
        super().__init__(metric)
        self._dim = dim
        self._build = build
        self._lists: Any = None
        self._scaling = Scaling(np.zeros(dim, np.float32), 1.0)
        self._spool: Spool | None = Spool(dim)
        self._row_at: NDArray[np.int32] | NDArray[np.int64] | None = None  # None: places are rows
        self._ranking: Ranking | None = None
        self._allowed = MadeOnce(self._at_places)

    @classmethod
    def plan(cls, n: int, dim: int, recall: float) -> dict[str, Any]:
        return {"nlist": lists.n_lists(n), "width": lists.code_width(dim, recall)}

    @classmethod
    def usual_search(cls) -> dict[str, int]:
        return {"nprobe": NPROBE, "k_factor": K_FACTOR}

    @classmethod
    def planned_bytes(cls, n: int, dim: int, build: Mapping[str, Any]) -> float:
        return _bytes(n, dim, build.get("nlist", lists.n_lists(n)), build.get("width", lists.code_width(dim)))

    @classmethod
    def create(cls, dim: int, metric: Metric, params: Mapping[str, Any]) -> Self:
        return cls(metric, dim, params)

    @property
    def needs_training(self) -> bool:
        return self._lists is None

    @property
    def training_rows(self) -> int:
        return max(lists.TRAINING_ROWS_PER_LIST * int(self._build.get("nlist", 1)), super().training_rows)

    def work_in(self, folder: Path) -> None:
        self._spool = Spool(self._dim, folder)

    def train(self, xt: Matrix) -> None:
        if not self.needs_training:
            return
        xt = xt if len(xt) else np.zeros((1, self._dim), np.float32)
        self._scaling = Scaling.fit(xt, self.metric)
        n_lists = int(self._build.get("nlist", lists.n_lists(len(xt))))
        width = int(self._build.get("width", lists.code_width(self._dim)))
        self._lists = lists.train_lists(self._scaling.apply(xt), self.metric, n_lists, width)

    def add(self, xb: Matrix) -> None:
        assert self._spool is not None, "a saved index takes no more rows"
        x = self._scaling.apply(xb)
        self._scaling.require_room(x)
        self._lists.add(x)
        self._spool.append(x)
        self._ranking = None

    def save(self, path: Path) -> list[Path]:
        import faiss

        beside = _beside(path)
        if self._spool is None:
            assert self._row_at is not None
            vectors_file.write(beside, self._scaling, self._row_at.astype(np.int64), [self._ranked().vectors])
        else:
            order = lists.order_of(self._lists)
            vectors_file.write(beside, self._scaling, order, vectors_file.in_order(self._spool.matrix(), order))
            # from here on it is the index that `load` gives
            lists.number_by_place(self._lists)
            self._read(beside)
            self._spool = None
        faiss.write_index(self._lists, str(path))
        return [path, beside]

    @classmethod
    def load(cls, path: Path, metric: Metric) -> Self:
        import faiss

        try:
            found = faiss.read_index(str(path))
        except RuntimeError as error:
            raise DamagedIndexError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
        if not lists.is_ours(found):
            raise DamagedIndexError(f"{path} holds a {type(found).__name__}, not the lists of an ivf index")
        if found.metric_type != faiss_metric(metric):
            raise DamagedIndexError(f"the index compares by FAISS metric {found.metric_type}, not {metric}")
        index = cls(metric, int(found.d), {})
        index._lists, index._spool = found, None
        index._read(_beside(path))
        return index

    def _read(self, beside: Path) -> None:
        self._scaling, rows, vectors = vectors_file.read(beside)
        if vectors.shape != (self._lists.ntotal, self._dim):
            raise DamagedIndexError(f"{beside} holds {vectors.shape} vectors, not {(self._lists.ntotal, self._dim)}")
        self._row_at = rows.astype(np.int32) if len(rows) <= np.iinfo(np.int32).max else rows
        self._ranking = Ranking(vectors, self.metric)

    def _ranked(self) -> Ranking:
        if self._ranking is None:
            assert self._spool is not None
            self._ranking = Ranking(self._spool.matrix(), self.metric)
        return self._ranking

    def search(
        self, xq: Matrix, k: int, params: SearchParams, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Scores, Rows]:
        if k == 0 or len(xq) == 0:
            return np.empty((len(xq), k), np.float32), np.empty((len(xq), k), np.int64)
        at_place = None if allowed is None else self._allowed.of(allowed)
        n = len(self) if at_place is None else at_place.chosen.n
        n_extra = int(params.get(N_EXTRA, 0))
        wanted, nprobe = max(k - n_extra, 1), params.get("nprobe", NPROBE)
        n_candidates = usual_candidates(wanted, params.get("k_factor", K_FACTOR)) + n_extra
        chosen = plan_search(wanted, nprobe, n_candidates, self.nlist, len(self), n)
        xq = self._scaling.apply(xq)
        if chosen is None or (at_place is not None and self._row_at is None):
            D, places = self._scan(xq, k, at_place)
        elif at_place is not None:
            D, places = self._probe_among(xq, k, wanted, nprobe, chosen, at_place)
        else:
            D, places = self._probe(xq, k, chosen, None)
        short = np.flatnonzero(places[:, -1] < 0)
        if len(short) and chosen is not None:  # what is allowed lies in other lists
            D[short], places[short] = self._scan(xq[short], k, at_place)
        return self._scaling.scores(D), self._rows_at(places)

    def _probe_among(
        self, xq: Matrix, k: int, wanted: int, nprobe: int, chosen: Plan, at_place: _AtPlaces
    ) -> tuple[Scores, Rows]:
        """As many lists as hold enough of what is allowed, and more until they give nothing better; queries that lie
        apart from it are compared with all of it, for what is nearest to one from afar may lie in any list."""
        ranked = lists.ranked_lists(self._lists, xq)
        needed = lists_needed(ranked, at_place.n_allowed_in, wanted, nprobe, len(self))
        steps = 2 ** np.ceil(np.log2(needed)).astype(np.int64)  # few calls for many queries
        most = min(math.ceil(ROW_COST * at_place.chosen.n * self.nlist / len(self)), self.nlist)
        steps[lie_apart(ranked, at_place.n_in, at_place.n_allowed_in, nprobe)] = most

        def probe(those: Rows, n_lists: int, times: int) -> tuple[Scores, Rows]:
            return self._probe(xq[those], k, Plan(n_lists, times * chosen.n_candidates), at_place)

        return probe_until_settled(probe, lambda those: self._scan(xq[those], k, at_place), steps, most, k)

    def _at_places(self, allowed: NDArray[np.bool_]) -> _AtPlaces:
        n_in = lists.sizes_of(self._lists)
        at_place = allowed if self._row_at is None else allowed[self._row_at]
        # places lie in the order of the lists once the index is saved; before, nobody asks
        n_allowed_in = np.diff(np.append(0, at_place.cumsum())[np.append(0, n_in.cumsum())])
        return _AtPlaces(Selected.of(at_place), n_in, n_allowed_in)

    def _probe(self, xq: Matrix, k: int, chosen: Plan, at_place: _AtPlaces | None) -> tuple[Scores, Rows]:
        import faiss

        ranked = faiss.IndexRefine(self._lists, self._ranked().index)
        params: Any = faiss.IndexRefineSearchParameters()
        sel = None if at_place is None else at_place.chosen.selector
        base = lists.search_parameters(self._lists, chosen.nprobe, sel)  # held until the search is over
        params.base_index_params, params.k_factor = base, max(chosen.n_candidates / k, 1.0)
        D, places = ranked.search(xq, k, params=params)
        return D, places

    def _scan(self, xq: Matrix, k: int, at_place: _AtPlaces | None) -> tuple[Scores, Rows]:
        return self._ranked().scan(xq, k, None if at_place is None else np.flatnonzero(at_place.chosen.mask))

    def _rows_at(self, places: Rows) -> Rows:
        if self._row_at is None:
            return places
        rows = self._row_at[np.maximum(places, 0)].astype(np.int64)
        rows[places < 0] = -1
        return rows

    def efforts(self, k: int) -> list[dict[str, int]]:
        return efforts(k, self.nlist)

    def __len__(self) -> int:
        return 0 if self._lists is None else int(self._lists.ntotal)

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def nlist(self) -> int:
        """How many lists there are; 0 before training."""
        return 0 if self._lists is None else lists.count_of(self._lists)

    @property
    def bytes_per_vector(self) -> float:
        n = max(len(self), 1)
        return 0.0 if self._lists is None else _bytes(n, self._dim, self.nlist, lists.width_of(self._lists)) / n

    @property
    def disk_bytes_per_vector(self) -> float:
        return 2.0 * self._dim + 8


def _beside(path: Path) -> Path:
    return path.with_name(path.name + MAPPED_SUFFIX)


def _bytes(n: int, dim: int, n_lists: int, width: int) -> float:
    return lists.list_bytes(n, dim, n_lists, width) + 4.0 * n  # and the row at each place
