"""Any index that FAISS can make from a string."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import UsageError
from embedsearch.index import parts
from embedsearch.index.allowed import Selected
from embedsearch.index.base import N_EXTRA, Rows, Scores, SearchParams
from embedsearch.index.faiss_index import FaissIndex
from embedsearch.index.growth import GROWTHS, MOST_IN_BEAM, grown
from embedsearch.index.walking import walk_among
from embedsearch.index.widening import probe_until_settled
from embedsearch.types import Metric
from embedsearch.vectors import Matrix, faiss_metric

DEFAULT = "HNSW32"  # where no string is given
_EXAMPLES = "valid ones are IVF1024,PQ32x4fs,RFlat and HNSW32"
_TRAINING_ROWS_PER_LIST = 39
_NPROBES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192, 16384)
_EF_SEARCHES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_K_FACTORS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512)
_USUAL = {"nprobe": 32, "ef_search": 128, "k_factor": 8}
# where FAISS cannot leave rows out, scores of all rows are held for some queries at a time: so many
_SCORES_AT_ONCE = 2**22


class FactoryIndex(FaissIndex):
    """What `faiss.index_factory` makes: Douze et al., "The Faiss library" (2024), and its wiki for the strings.

    Build parameter: factory. Search parameters are those that the index has: nprobe (inverted lists), ef_search
    (graphs), k_factor (refinement). Scores are FAISS's own: of codes that are not refined they are approximate.
    """

    family: ClassVar[str] = "factory"
    exact: ClassVar[bool] = False

    def __init__(self, faiss_index: Any, metric: Metric) -> None:
        super().__init__(faiss_index, metric)
        self.holds_out = parts.is_graph(faiss_index)
        self.growths = GROWTHS if self.holds_out else ()

    @classmethod
    def planned_bytes(cls, n: int, dim: int, build: Mapping[str, Any]) -> float:
        return parts.bytes_of(_make(dim, None, build), n)

    @classmethod
    def create(cls, dim: int, metric: Metric, params: Mapping[str, Any]) -> Self:
        """Raises UsageError for a string that FAISS does not understand, or whose index cannot be filled here."""
        return cls(_make(dim, metric, params), metric)

    @property
    def training_rows(self) -> int:
        return max(super().training_rows, _TRAINING_ROWS_PER_LIST * parts.knobs(self._faiss).get("nprobe", 0))

    def train(self, xt: Matrix) -> None:
        """Raises UsageError with FAISS's reason, such as fewer rows than lists."""
        parts.train_on_few(self._faiss)
        try:
            super().train(xt)
        except RuntimeError as error:
            raise UsageError(
                f"the index cannot be trained on {len(xt)} vectors: {parts.reason(error)}; "
                "give more, or ask for a smaller index"
            ) from error

    def reserve(self, n: int) -> None:
        parts.reserve(self._faiss, n)

    def search(
        self, xq: Matrix, k: int, params: SearchParams, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Scores, Rows]:
        knobs = parts.knobs(self._faiss)
        search: dict[str, float] = {name: params.get(name, _USUAL[name]) for name in knobs}
        n_extra = int(params.get(N_EXTRA, 0))
        wanted = max(k - n_extra, 1)
        if "nprobe" in knobs:
            # more answers lie in more lists: the neighbourhood that holds them grows
            search["nprobe"] = math.ceil(search["nprobe"] * max(wanted / 10, 1.0) ** 0.5)
        if "ef_search" in knobs:
            search["ef_search"] = grown(search["ef_search"], k, params)
        if "k_factor" in knobs:
            search["k_factor"] = max((search["k_factor"] * wanted + n_extra) / k, 1.0)
        if allowed is not None:
            return self._search_among(xq, k, search, self._allowed.of(allowed))
        if search.get("ef_search", 0) > MOST_IN_BEAM:
            return parts.scan(self._faiss, xq, k, None)
        D, I = self._search(xq, k, search)  # noqa: E741
        short = np.flatnonzero(I[:, -1] < 0)
        if len(short):
            D[short], I[short] = parts.scan(self._faiss, xq[short], k, None)
        return D, I

    def _search(self, xq: Matrix, k: int, search: Mapping[str, float], sel: Any = None) -> tuple[Scores, Rows]:
        most = len(self) / k  # FAISS asks for no more candidates than there are
        fits = {name: min(value, most) if name == "k_factor" else value for name, value in search.items()}
        D, I = self._faiss.search(xq, k, params=parts.parameters(self._faiss, fits, sel))  # noqa: E741
        return D, I

    def _search_among(self, xq: Matrix, k: int, search: Mapping[str, float], chosen: Selected) -> tuple[Scores, Rows]:
        def scan(those: Rows) -> tuple[Scores, Rows]:
            return self._scan(xq[those], k, chosen)

        if "ef_search" in search:
            n_candidates = math.ceil(max(search["ef_search"], k * search.get("k_factor", 1.0)))
            return walk_among(
                lambda wide: self._search(xq, wide, {**search, "ef_search": wide, "k_factor": 1.0}),
                scan,
                len(xq),
                k,
                n_candidates,
                chosen,
                self.metric,
            )
        if "nprobe" in search and parts.can_select(self._faiss):
            most = parts.knobs(self._faiss)["nprobe"]
            first = np.full(len(xq), min(math.ceil(search["nprobe"] / chosen.share), most))

            def probe(those: Rows, n_lists: int, times: int) -> tuple[Scores, Rows]:
                wide = {**search, "nprobe": n_lists, "k_factor": times * search.get("k_factor", 1.0)}
                return self._search(xq[those], k, wide, chosen.selector)

            return probe_until_settled(probe, scan, first, most, k)
        return scan(np.arange(len(xq)))

    def _scan(self, xq: Matrix, k: int, chosen: Selected) -> tuple[Scores, Rows]:
        """The k best of what is allowed, by the scores of the index."""
        if parts.can_select(self._faiss):
            return parts.scan(self._faiss, xq, k, chosen.selector)
        n = len(self)
        D, I = np.empty((len(xq), k), np.float32), np.empty((len(xq), k), np.int64)  # noqa: E741
        at_once = max(_SCORES_AT_ONCE // max(n, 1), 1)
        for start in range(0, len(xq), at_once):
            part = slice(start, start + at_once)
            scores, rows = parts.scan(self._faiss, xq[part], n, None)
            fits = chosen.mask[np.maximum(rows, 0)] & (rows >= 0)
            first = np.argsort(~fits, axis=1, kind="stable")[:, :k]
            D[part], I[part] = np.take_along_axis(scores, first, axis=1), np.take_along_axis(rows, first, axis=1)
            I[part][np.take_along_axis(~fits, first, axis=1)] = -1
        return D, I

    def efforts(self, k: int) -> list[dict[str, int]]:
        knobs = parts.knobs(self._faiss)
        ladders: dict[str, list[int]] = {}
        if "nprobe" in knobs:
            most = knobs["nprobe"]
            ladders["nprobe"] = [*(nprobe for nprobe in _NPROBES if nprobe < most), most]
        if "ef_search" in knobs:
            ladders["ef_search"] = list(dict.fromkeys(max(ef, k) for ef in _EF_SEARCHES))
        if "k_factor" in knobs:
            ladders["k_factor"] = list(_K_FACTORS)
        length = max(map(len, ladders.values()), default=0)
        # all that can be spent on grows together; the shorter ladder is climbed in slower steps
        return [
            {name: steps[round(step * (len(steps) - 1) / max(length - 1, 1))] for name, steps in ladders.items()}
            for step in range(length)
        ]

    @property
    def bytes_per_vector(self) -> float:
        n = max(len(self), 1)
        return parts.bytes_of(self._faiss, n) / n


def _make(dim: int, asked: Metric | None, build: Mapping[str, Any]) -> Any:
    """asked: None where any metric will do."""
    import faiss

    metric = asked or Metric.L2
    told = f"{dim} dimensions" + (f" and {asked}" if asked else "")
    text = str(build.get("factory", DEFAULT))
    try:
        made = faiss.index_factory(dim, text, faiss_metric(metric))
    except (RuntimeError, MemoryError) as error:
        raise UsageError(
            f"FAISS makes no index from {text!r} for {told}: {parts.reason(error)}; {_EXAMPLES}"
        ) from error
    refused = parts.refusal(made, faiss_metric(metric))
    if refused is not None:
        raise UsageError(f"the index {text!r} cannot be used for {told}: {refused}; {_EXAMPLES}")
    return made
