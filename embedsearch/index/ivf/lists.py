"""The inverted lists: how many, how they are trained, and the order that vectors have in them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.types import Metric
from embedsearch.vectors import Matrix, faiss_metric

# sqrt(n) lists. Fast scans make long lists cheap: from 0.5 to 1 sqrt(n) searches were equally fast, with 2 sqrt(n) a
# fifth slower and with 4 sqrt(n) a third, at recall .9 to .99 over texts (115,000 x 384) and words (399,000 x 50)
LISTS_PER_ROOT = 1
MOST_LISTS = 65_536
TRAINING_ROWS_PER_LIST = 39  # what FAISS asks for, at least
_MOST_TRAINING_ROWS_PER_LIST = 64
_ITERATIONS = 8
_SEED = 1234
# one 4-bit code stands for one dimension of vectors of up to NARROW, for 4 beyond WIDE. Over texts (384-d) and pictures
# (512-d) 4 was a tenth to a half faster than 2 at recall .95 to .99, in half the memory; over words (50-d) 1 was a
# quarter faster than 2. Between, it is 2 up to COARSE_MAX_RECALL: beyond, so many candidates would have to be ranked
# that 1 is faster (over the mixture of benchmarks/scale.py, 128-d, three times at .99)
NARROW, WIDE = 64, 192
COARSE_MAX_RECALL = 0.95
BLOCK = 32  # codes that a fast scan reads at once
_ID_BYTES = 8


def n_lists(n: int) -> int:
    """For n vectors: sqrt(n), at least 1, at most MOST_LISTS, never so many that training lacks rows."""
    return max(min(round(LISTS_PER_ROOT * math.sqrt(n)), n // TRAINING_ROWS_PER_LIST, MOST_LISTS), 1)


def code_width(dim: int, recall: float = COARSE_MAX_RECALL) -> int:
    """Dimensions that a 4-bit code stands for, where a search has to find the share `recall`."""
    if dim > WIDE:
        return 4
    return 1 if dim <= NARROW or recall > COARSE_MAX_RECALL else 2


def code_bytes(dim: int, width: int) -> int:
    """Bytes of the codes of one vector; a fast scan takes them in pairs."""
    n_codes = math.ceil(dim / width)
    return math.ceil(n_codes / 2)


def list_bytes(n: int, dim: int, n_lists: int, width: int) -> float:
    """Memory of n vectors in lists, with the half block that each list wastes on average, and the centroids."""
    return n * (code_bytes(dim, width) + _ID_BYTES) + n_lists * (BLOCK / 2 * code_bytes(dim, width) + 4.0 * dim)


def train_lists(xt: Matrix, metric: Metric, n_lists: int, width: int) -> Any:
    """A FAISS index of trained, empty lists, for vectors like the sample `xt` (float32 n x D, n at least 1).

    Lists: k-means (spherical but under l2). Codes: product quantization with 16 centroids each, compared by a fast
    scan (Jégou, Douze & Schmid, "Product quantization for nearest neighbor search", 2011; André, Kermarrec &
    Le Scouarnec, "Cache locality is not enough", 2015). Fewer lists are made than asked for where the sample is small.
    """
    import faiss

    api: Any = faiss  # its stubs do not know all that these classes take
    dim = xt.shape[1]
    padded = -(-dim // width) * width
    n_lists = max(min(n_lists, len(xt) // TRAINING_ROWS_PER_LIST), 1)
    flat = faiss.IndexFlat(padded, faiss_metric(metric))
    lists: Any = faiss.IndexIVFPQFastScan(flat, padded, n_lists, padded // width, 4, faiss_metric(metric), BLOCK)
    lists.cp.niter, lists.cp.seed = _ITERATIONS, _SEED
    lists.cp.max_points_per_centroid = _MOST_TRAINING_ROWS_PER_LIST
    for clustering in (lists.cp, lists.pq.cp):
        clustering.min_points_per_centroid = 1  # small indexes are meant to have few rows, which needs no warning
    index = lists
    if padded != dim:
        index = api.IndexPreTransform(api.RemapDimensionsTransform(dim, padded, False), lists)
    enough = np.resize(xt, (max(len(xt), lists.pq.ksub), dim))
    wide = np.pad(enough, ((0, 0), (0, padded - dim))) if padded != dim else enough
    faiss.Clustering(padded, n_lists, lists.cp).train(wide, flat)
    with _one_thread():  # thousands of tiny steps, after each of which threads would wait for one another
        index.train(enough)
    return index


@contextmanager
def _one_thread() -> Iterator[None]:
    """FAISS works in the calling thread alone; other threads keep their number."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def is_ours(index: Any) -> bool:
    """Whether FAISS has read what `train_lists` made."""
    import faiss

    inner = faiss.downcast_index(index.index) if is_padded(index) else index
    return isinstance(inner, faiss.IndexIVFPQFastScan)


def is_padded(index: Any) -> bool:
    """Whether vectors take zeros at their end first, so that codes of one width cover them."""
    import faiss

    return isinstance(index, faiss.IndexPreTransform)


def count_of(index: Any) -> int:
    import faiss

    return int(faiss.extract_index_ivf(index).nlist)


def width_of(index: Any) -> int:
    """Dimensions that one code stands for."""
    import faiss

    lists: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    return int(lists.d // lists.M)


def sizes_of(index: Any) -> NDArray[np.int64]:
    """How many vectors each list holds."""
    import faiss

    lists: Any = faiss.extract_index_ivf(index).invlists
    return np.array([lists.list_size(number) for number in range(lists.nlist)], np.int64)


def ranked_lists(index: Any, xq: Matrix) -> NDArray[np.int64]:
    """All lists for each query, nearest first, n x number of lists."""
    import faiss

    lists: Any = faiss.extract_index_ivf(index)
    wide = np.pad(xq, ((0, 0), (0, int(lists.d) - xq.shape[1])))
    found: NDArray[np.int64] = lists.quantizer.search(np.ascontiguousarray(wide), int(lists.nlist))[1]
    return found


def search_parameters(index: Any, nprobe: int, sel: Any = None) -> Any:
    """FAISS's parameters for searching what `train_lists` gave; sel: an IDSelector, or None."""
    import faiss

    api: Any = faiss  # its stubs do not know what these classes take
    chosen = api.SearchParametersIVF(nprobe=nprobe, sel=sel)
    return api.SearchParametersPreTransform(index_params=chosen) if is_padded(index) else chosen


def order_of(index: Any) -> NDArray[np.int64]:
    """The ids of all vectors in the order of the lists."""
    parts = [ids.copy() for ids in _ids(index)]
    return np.concatenate([*parts, np.empty(0, np.int64)])


def number_by_place(index: Any) -> None:
    """Gives each vector as its id the place where it stands in the order of the lists."""
    start = 0
    for ids in _ids(index):
        ids[:] = np.arange(start, start + len(ids))
        start += len(ids)


def _ids(index: Any) -> list[NDArray[np.int64]]:
    """The ids that FAISS holds, a list at a time, as they lie in its memory."""
    import faiss

    lists: Any = faiss.downcast_InvertedLists(faiss.extract_index_ivf(index).invlists)  # type: ignore[arg-type]
    sizes = [(number, int(lists.list_size(number))) for number in range(lists.nlist)]
    return [faiss.rev_swig_ptr(lists.get_ids(number), size) for number, size in sizes if size]
