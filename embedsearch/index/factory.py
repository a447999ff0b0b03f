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
from embedsearch.index.base import N_OWN, Rows, Scores, SearchParams
from embedsearch.index.faiss_index import FaissIndex
from embedsearch.types import Metric
from embedsearch.vectors import Matrix, faiss_metric

DEFAULT = "HNSW32"  # where no string is given
_EXAMPLES = "valid ones are IVF1024,PQ32x4fs,RFlat and HNSW32"
_TRAINING_ROWS_PER_LIST = 39
_NPROBES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192, 16384)
_EF_SEARCHES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_K_FACTORS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512)
_USUAL = {"nprobe": 32, "ef_search": 128, "k_factor": 8}
# where at most this share of the rows is allowed, a graph's rows are scanned instead of walked to
_SCAN_SHARE = 0.1


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
        chosen = None if allowed is None else self._allowed.of(allowed)
        share = 1.0 if chosen is None else chosen.share
        search: dict[str, float] = {name: params.get(name, _USUAL[name]) for name in knobs}
        n_own = int(params.get(N_OWN, 0))
        wanted = max(k - n_own, 1)
        if "nprobe" in knobs:
            # more answers lie in more lists: the neighbourhood that holds them grows
            search["nprobe"] = math.ceil(search["nprobe"] * max(wanted / 10, 1.0) ** 0.5 / share)
        if "ef_search" in knobs:
            search["ef_search"] = math.ceil(max(search["ef_search"], k) / share)
        if "k_factor" in knobs:  # FAISS asks for no more candidates than there are
            n_candidates = min(search["k_factor"] * wanted + n_own, len(self) * share)
            search["k_factor"] = max(n_candidates / k, 1.0)
        if chosen is not None and not parts.can_select(self._faiss):
            return self._overfetched(xq, k, search, chosen)
        sel = None if chosen is None else chosen.selector
        if "ef_search" in knobs and share <= _SCAN_SHARE:
            # a walk would mostly meet rows that are not allowed, and come back short
            return parts.scan(self._faiss, xq, k, sel)
        D, I = self._faiss.search(xq, k, params=parts.parameters(self._faiss, search, sel))  # noqa: E741
        short = np.flatnonzero(I[:, -1] < 0)
        if len(short):
            D[short], I[short] = parts.scan(self._faiss, xq[short], k, sel)
        return D, I

    def _overfetched(self, xq: Matrix, k: int, search: Mapping[str, float], allowed: Selected) -> tuple[Scores, Rows]:
        """More answers than k, until k of them are allowed."""
        n = len(self)
        wanted = min(math.ceil(2 * k / allowed.share), n)
        while True:
            wide = {**search, "ef_search": max(search.get("ef_search", 0), wanted)}
            if "k_factor" in search:
                wide["k_factor"] = max(min(search["k_factor"], n / wanted), 1.0)
            if wanted < n:
                D, I = self._faiss.search(xq, wanted, params=parts.parameters(self._faiss, wide, None))  # noqa: E741
            else:
                D, I = parts.scan(self._faiss, xq, n, None)  # noqa: E741
            fits = allowed.mask[np.maximum(I, 0)] & (I >= 0)
            if wanted == n or fits.sum(axis=1).min() >= k:
                first = np.argsort(~fits, axis=1, kind="stable")[:, :k]
                return np.take_along_axis(D, first, axis=1), np.take_along_axis(I, first, axis=1)
            wanted = min(4 * wanted, n)

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
