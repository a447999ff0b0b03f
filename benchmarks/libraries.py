"""The libraries that `ann.py` compares, behind one contract, each built and asked as its own documentation says.

All get vectors of unit length and compare by inner product, which is the cosine. The HNSW graphs have M = 16
and ef_construction = 200. Peers are imported on first use; one that is not installed is left out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

THREADS, K = 2, 10
M, EF_CONSTRUCTION = 16, 200
# from the least that makes sense for ten answers, in steps of about the square root of two
EFFORTS: tuple[float, ...] = (10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 896, 1280)


class Library(ABC):
    """name: in tables. package: what pip installs. module: what is imported. settings: of the build, in words.

    efforts: what `search` takes, from fast to thorough. Of each batch only `search` is timed.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    module: ClassVar[str]
    settings: str
    effort_name: ClassVar[str] = "ef"
    efforts: tuple[float, ...] = EFFORTS

    @classmethod
    def is_installed(cls) -> bool:
        return find_spec(cls.module) is not None

    @property
    def version(self) -> str:
        try:
            return version(self.package)
        except PackageNotFoundError:
            return "?"

    @abstractmethod
    def build(self, xb: np.ndarray, folder: Path) -> None:
        """Makes the index in THREADS threads; may already write to `folder`."""

    def save(self, folder: Path) -> None:  # noqa: B027  what `build` wrote is enough for some
        """Writes the index to `folder`, where it is not yet."""

    @abstractmethod
    def load(self, folder: Path, n: int, dim: int) -> None:
        """The index of n vectors from `folder`."""

    def use_threads(self, threads: int) -> None:  # noqa: B027  most decide by the batch
        """Called before batches with THREADS, before single queries with 1."""

    @abstractmethod
    def search(self, xq: np.ndarray, effort: float) -> Any:
        """The K best for each row, in whatever form the library answers."""

    @abstractmethod
    def rows(self, answer: Any) -> np.ndarray:
        """Rows of the database, int64 Q x K, of what `search` answered; -1 where there is none."""


class Hnswlib(Library):
    name, package, module = "hnswlib", "hnswlib", "hnswlib"
    settings = f"M {M}, ef_construction {EF_CONSTRUCTION}, float32"

    def build(self, xb: np.ndarray, folder: Path) -> None:
        self._index = self._empty(xb.shape[1])
        self._index.init_index(len(xb), M=M, ef_construction=EF_CONSTRUCTION)
        self._index.add_items(xb, num_threads=THREADS)

    def save(self, folder: Path) -> None:
        self._index.save_index(str(folder / "index.bin"))

    def load(self, folder: Path, n: int, dim: int) -> None:
        self._index = self._empty(dim)
        self._index.load_index(str(folder / "index.bin"), max_elements=n)

    def search(self, xq: np.ndarray, effort: float) -> Any:
        self._index.set_ef(int(effort))  # sets a number, costs nothing
        return self._index.knn_query(xq, K)

    def rows(self, answer: Any) -> np.ndarray:
        return np.asarray(answer[0], np.int64)

    def use_threads(self, threads: int) -> None:
        self._index.set_num_threads(threads)

    def _empty(self, dim: int) -> Any:
        import hnswlib

        index = hnswlib.Index("ip", dim)
        index.set_num_threads(THREADS)
        return index


class Usearch(Library):
    name, package, module = "usearch f16", "usearch", "usearch"
    settings = f"connectivity {M}, expansion_add {EF_CONSTRUCTION}, f16"
    _threads = THREADS

    def build(self, xb: np.ndarray, folder: Path) -> None:
        self._index = self._empty(xb.shape[1])
        self._index.add(np.arange(len(xb)), xb, threads=THREADS)

    def save(self, folder: Path) -> None:
        self._index.save(str(folder / "index.usearch"))

    def load(self, folder: Path, n: int, dim: int) -> None:
        self._index = self._empty(dim)
        self._index.load(str(folder / "index.usearch"))

    def use_threads(self, threads: int) -> None:
        self._threads = threads  # it starts threads with every call

    def search(self, xq: np.ndarray, effort: float) -> Any:
        self._index.expansion_search = int(effort)
        return self._index.search(xq, K, threads=self._threads)

    def rows(self, answer: Any) -> np.ndarray:
        return np.asarray(answer.keys, np.int64).reshape(-1, K)  # flat for one query

    def _empty(self, dim: int) -> Any:
        from usearch.index import Index

        return Index(ndim=dim, metric="ip", dtype="f16", connectivity=M, expansion_add=EF_CONSTRUCTION)


class FaissHNSW(Library):
    name, package, module = "FAISS HNSW", "faiss-cpu", "faiss"
    settings = f"M {M}, efConstruction {EF_CONSTRUCTION}, float32"

    def build(self, xb: np.ndarray, folder: Path) -> None:
        import faiss

        faiss.omp_set_num_threads(THREADS)
        self._index = faiss.IndexHNSWFlat(xb.shape[1], M, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = EF_CONSTRUCTION
        self._index.add(xb)

    def save(self, folder: Path) -> None:
        import faiss

        faiss.write_index(self._index, str(folder / "index.faiss"))

    def load(self, folder: Path, n: int, dim: int) -> None:
        import faiss

        self._index = faiss.read_index(str(folder / "index.faiss"))

    def use_threads(self, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)

    def search(self, xq: np.ndarray, effort: float) -> Any:
        import faiss

        return self._index.search(xq, K, params=faiss.SearchParametersHNSW(efSearch=int(effort)))

    def rows(self, answer: Any) -> np.ndarray:
        return np.asarray(answer[1], np.int64)


class Voyager(Library):
    name, package, module = "voyager", "voyager", "voyager"
    # its InnerProduct adds a dimension to vectors of any length, Cosine does not
    settings = f"Cosine, M {M}, ef_construction {EF_CONSTRUCTION}, Float32"
    effort_name = "query_ef"

    def build(self, xb: np.ndarray, folder: Path) -> None:
        import voyager

        self._index = voyager.Index(
            voyager.Space.Cosine, xb.shape[1], M=M, ef_construction=EF_CONSTRUCTION, max_elements=len(xb)
        )
        self._index.add_items(xb, num_threads=THREADS)

    def save(self, folder: Path) -> None:
        self._index.save(str(folder / "index.voy"))

    def load(self, folder: Path, n: int, dim: int) -> None:
        import voyager

        self._index = voyager.Index.load(str(folder / "index.voy"))

    def search(self, xq: np.ndarray, effort: float) -> Any:
        return self._index.query(xq, K, num_threads=THREADS, query_ef=int(effort))

    def rows(self, answer: Any) -> np.ndarray:
        return np.asarray(answer[0], np.int64)


class SVS(Library):
    """Vamana over half floats; its compressed vectors (LVQ, LeanVec) run on processors of Intel alone."""

    name, package, module = "SVS f16", "scalable-vs", "svs"
    settings = "Vamana, degree 64, window 128, alpha 0.95, float16"
    effort_name = "window"

    def build(self, xb: np.ndarray, folder: Path) -> None:
        import svs

        parameters = svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=64, window_size=128)
        self._index = svs.Vamana.build(parameters, xb.astype(np.float16), svs.DistanceType.MIP, num_threads=THREADS)

    def save(self, folder: Path) -> None:
        self._index.save(*(str(folder / part) for part in ("config", "graph", "data")))

    def load(self, folder: Path, n: int, dim: int) -> None:
        import svs

        self._index = svs.Vamana(
            str(folder / "config"),
            svs.GraphLoader(str(folder / "graph")),
            svs.VectorDataLoader(str(folder / "data"), svs.DataType.float16, dims=dim),
            svs.DistanceType.MIP,
            num_threads=THREADS,
        )

    def use_threads(self, threads: int) -> None:
        if self._index.num_threads != threads:  # it would make its threads anew
            self._index.num_threads = threads

    def search(self, xq: np.ndarray, effort: float) -> Any:
        if self._index.search_window_size != int(effort):
            self._index.search_window_size = int(effort)
        return self._index.search(xq, K)

    def rows(self, answer: Any) -> np.ndarray:
        return np.asarray(answer[0], np.int64)
