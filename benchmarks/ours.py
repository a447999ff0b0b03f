"""This package among the libraries of `ann.py`: by its public road, and its index alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from libraries import EFFORTS, THREADS, K, Library

import embedsearch as es
from embedsearch.index import IndexRequest, choose_index
from embedsearch.pipeline.fit import sample_rows
from embedsearch.registry import INDEXES
from embedsearch.types import Metric

FAMILY = "graph"
RECALLS = (0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.9975)


class Ours(Library):
    """`build`, then `search_vectors`: vectors in, ids and scores out."""

    name, package, module = "embedsearch", "embedsearch", "embedsearch"
    settings = f'index="{FAMILY}", public API'
    effort_name = "recall asked for"
    efforts = RECALLS

    def build(self, xb: np.ndarray, folder: Path) -> None:
        _set_threads()
        es.build(xb, folder / "index", index=FAMILY)

    def load(self, folder: Path, n: int, dim: int) -> None:
        self._index = es.open(folder / "index")
        most = max(point["recall"] for point in self._index.info()["index"]["tuned"]["curve"])
        self.efforts = tuple(recall for recall in RECALLS if recall <= most)
        _set_threads()

    def use_threads(self, threads: int) -> None:
        _set_threads()  # single queries find THREADS as well: that it uses one is its own affair

    def search(self, xq: np.ndarray, effort: float) -> Any:
        return self._index.search_vectors(xq, k=K, recall=effort)

    def rows(self, answer: Any) -> np.ndarray:
        return np.array([[-1 if name is None else int(name) for name in names] for names in answer[0]], np.int64)


class OursIndexOnly(Library):
    """The structure inside, with raw search parameters, rows and scores out: what the public road adds shows."""

    name, package, module = "embedsearch, index only", "embedsearch", "embedsearch"
    settings = f"family {FAMILY}, raw parameters"
    effort_name = "ef_search"
    efforts = EFFORTS

    def build(self, xb: np.ndarray, folder: Path) -> None:
        _set_threads()
        n, dim = xb.shape
        self._index = INDEXES.get(FAMILY).create(dim, Metric.COSINE, choose_index(IndexRequest(FAMILY), n, dim).build)
        self._index.train(xb[sample_rows(n)])
        self._index.add(xb)
        self._index.complete(lambda rows: None)

    def save(self, folder: Path) -> None:
        self._index.save(folder / "index.faiss")

    def load(self, folder: Path, n: int, dim: int) -> None:
        self._index = INDEXES.get(FAMILY).load(folder / "index.faiss", Metric.COSINE)
        self._usual = dict(choose_index(IndexRequest(FAMILY), n, dim).search)
        _set_threads()

    def use_threads(self, threads: int) -> None:
        _set_threads()

    def search(self, xq: np.ndarray, effort: float) -> Any:
        return self._index.search(xq, K, {**self._usual, "ef_search": int(effort)})

    def rows(self, answer: Any) -> np.ndarray:
        return np.asarray(answer[1], np.int64)


def _set_threads() -> None:
    import faiss

    faiss.omp_set_num_threads(THREADS)
