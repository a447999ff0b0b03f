"""What a FAISS index is made of: transforms, lists, graphs, codes, refinement, one inside the other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.vectors import Matrix

# FAISS frees an index with its owner, and what `downcast_index` gives is none: so the argument keeps its name
Found = tuple[NDArray[np.float32], NDArray[np.int64]]

# scores of these are counts of bits, or their vectors must come with ids or all at once
_REFUSED = {
    "IndexIDMap": "it keeps ids of its own, rows are counted here; leave IDMap out",
    "IndexIDMap2": "it keeps ids of its own, rows are counted here; leave IDMap2 out",
    "IndexNSGFlat": "an NSG graph takes all its rows at once, here they come in blocks; take HNSW",
    "IndexNSGPQ": "an NSG graph takes all its rows at once, here they come in blocks; take HNSW",
    "IndexNSGSQ": "an NSG graph takes all its rows at once, here they come in blocks; take HNSW",
    "IndexNNDescentFlat": "an NNDescent graph takes all its rows at once, here they come in blocks; take HNSW",
    "IndexLSH": "its scores are Hamming distances; refine it, as in LSH,RFlat",
    "IndexIVFSpectralHash": "its scores are Hamming distances; refine it with RFlat",
    "IndexHNSW2Level": "it cannot be searched exactly, which filters need",
}
_HAMMING = ("IndexLSH", "IndexIVFSpectralHash")


def refusal(index: Any, faiss_metric: int) -> str | None:
    """Why an index cannot be used here, None when it can."""
    import faiss

    kinds = [type(part).__name__ for part in parts(index)]
    refined = isinstance(index, faiss.IndexRefine)
    for kind in kinds:
        if kind in _REFUSED and not (refined and kind in _HAMMING):
            return _REFUSED[kind]
    wrong = [type(part).__name__ for part in ([index] if refined else parts(index)) if part.metric_type != faiss_metric]
    return f"{wrong[0]} compares by l2 only" if wrong else None


def parts(outer: Any) -> Iterator[Any]:
    """The index and those inside it that hold its vectors, from the outermost."""
    import faiss

    index = faiss.downcast_index(outer)
    yield index
    if isinstance(index, faiss.IndexPreTransform):
        yield from parts(index.index)
    elif isinstance(index, faiss.IndexRefine):
        yield from parts(index.base_index)
    elif isinstance(index, faiss.IndexHNSW):
        yield from parts(index.storage)


def knobs(index: Any) -> dict[str, int]:
    """What a search can spend more or less on, with the most that helps: nprobe, ef_search, k_factor."""
    import faiss

    found: dict[str, int] = {}
    for part in parts(index):
        if isinstance(part, faiss.IndexRefine):
            found["k_factor"] = 1024
        elif isinstance(part, faiss.IndexIVF):
            found["nprobe"] = int(part.nlist)
        elif isinstance(part, faiss.IndexHNSW):
            found["ef_search"] = 1024
    return found


def parameters(outer: Any, search: Mapping[str, float], sel: Any) -> Any:
    """FAISS's parameters for one search; what it must keep alive is held by it. sel: an IDSelector, or None."""
    import faiss

    api: Any = faiss  # its stubs do not know what these classes take
    index = faiss.downcast_index(outer)
    if isinstance(index, faiss.IndexPreTransform):
        return api.SearchParametersPreTransform(index_params=parameters(index.index, search, sel))
    if isinstance(index, faiss.IndexRefine):
        chosen = api.IndexRefineSearchParameters()
        chosen.k_factor = float(search["k_factor"])
        chosen.base_index_params = inner = parameters(index.base_index, search, sel)
        chosen.referenced_objects = [inner]
        return chosen
    if isinstance(index, faiss.IndexIVF):
        nprobe = min(int(search["nprobe"]), int(index.nlist))
        made = _of_lists(index)(nprobe=nprobe, sel=sel)
        if isinstance(faiss.downcast_index(index.quantizer), faiss.IndexHNSW):
            # a walk that looks at no more nodes than it answers finds poor ones
            walk = api.SearchParametersHNSW(efSearch=2 * nprobe)
            made.quantizer_params = walk
            made.referenced_objects = [*getattr(made, "referenced_objects", []), walk]
        return made
    if isinstance(index, faiss.IndexHNSW):
        return api.SearchParametersHNSW(efSearch=int(search["ef_search"]), sel=sel)
    return None if sel is None else api.SearchParameters(sel=sel)


def _of_lists(index: Any) -> Any:
    import faiss

    api: Any = faiss
    kind = type(index).__name__
    if kind in ("IndexIVFPQ", "IndexIVFPQR"):
        return api.IVFPQSearchParameters
    return api.IVFRaBitQSearchParameters if kind.startswith("IndexIVFRaBitQ") else api.SearchParametersIVF


def can_select(index: Any) -> bool:
    """Whether FAISS leaves out rows while it searches; else they have to be left out of what it found."""
    import faiss

    innermost = list(parts(index))[-1]
    if isinstance(innermost, faiss.IndexIVFPQR):
        return False
    return isinstance(innermost, faiss.IndexFlat | faiss.IndexScalarQuantizer | faiss.IndexIVF)


def scan(outer: Any, xq: Matrix, k: int, sel: Any) -> Found:
    """The k best of all rows, by the scores that a search of the index gives: nothing is left to its structure."""
    import faiss

    index = faiss.downcast_index(outer)
    if isinstance(index, faiss.IndexPreTransform):
        chain: Any = index.chain
        for number in range(chain.size()):
            xq = faiss.downcast_VectorTransform(chain.at(number)).apply(xq)
        return scan(index.index, xq, k, sel)
    if isinstance(index, faiss.IndexRefine):
        return scan(index.refine_index, xq, k, sel)
    if isinstance(index, faiss.IndexHNSW):
        return scan(index.storage, xq, k, sel)
    everything = {"nprobe": int(index.nlist)} if isinstance(index, faiss.IndexIVF) else {}
    D, I = index.search(xq, k, params=parameters(index, everything, sel))  # noqa: E741
    return D, I


def bytes_of(outer: Any, n: int) -> float:
    """Memory of codes, ids, links and centroids with n vectors."""
    import faiss

    index = faiss.downcast_index(outer)
    if isinstance(index, faiss.IndexPreTransform):
        return bytes_of(index.index, n)
    if isinstance(index, faiss.IndexRefine):
        return bytes_of(index.base_index, n) + bytes_of(index.refine_index, n)
    if isinstance(index, faiss.IndexIVF):
        return n * (float(index.code_size) + 8) + bytes_of(index.quantizer, int(index.nlist))
    if isinstance(index, faiss.IndexHNSW):
        graph: Any = index.hnsw
        links = int(graph.nb_neighbors(0))
        # M links on each higher floor, of which a node has 1/(M-1) on average
        return bytes_of(index.storage, n) + n * (4.0 * links * (1 + 1 / max(links - 2, 1)) + 8)
    return n * float(index.sa_code_size())


def train_on_few(outer: Any) -> None:
    """Lets FAISS train on as few rows as there are, without a warning a clustering: what an index finds is measured."""
    for part in parts(outer):
        for holder in (part, getattr(part, "pq", None)):
            clustering = getattr(holder, "cp", None)
            if clustering is not None:
                clustering.min_points_per_centroid = 1


def reserve(outer: Any, n: int) -> None:
    """Takes memory for the codes of n vectors at once where they lie in one piece."""
    import faiss

    index = faiss.downcast_index(outer)
    if isinstance(index, faiss.IndexRefine):
        reserve(index.base_index, n)
        reserve(index.refine_index, n)
    elif isinstance(index, faiss.IndexPreTransform):
        reserve(index.index, n)
    elif isinstance(index, faiss.IndexHNSW):
        reserve(index.storage, n)
    elif isinstance(index, faiss.IndexFlatCodes):
        index.codes.resize(n * int(index.code_size))
        index.codes.resize(0)  # growing and shrinking leaves the capacity behind


def reason(error: Exception) -> str:
    """What FAISS says, in one line, without the place in its source."""
    if "METRIC_L2" in str(error):
        return "it compares by l2 only"
    said = re.split(r"\.(?:cpp|h):\d+: ", str(error).replace("\n", " "))[-1].removeprefix("Error: ")
    return re.sub(r"^'[^']*' failed: ", "", said).strip()


def is_graph(index: Any) -> bool:
    """Whether a search walks a graph of the rows, at any place in it."""
    import faiss

    return any(isinstance(part, faiss.IndexHNSW) for part in parts(index))


def permute(outer: Any, order: NDArray[np.int64]) -> None:
    """Moves the row at position order[i] to position i, in every part that holds rows; order: int64 n."""
    import faiss

    index = faiss.downcast_index(outer)
    if isinstance(index, faiss.IndexRefine):
        permute(index.base_index, order)
        permute(index.refine_index, order)
    elif isinstance(index, faiss.IndexPreTransform):
        permute(index.index, order)
    else:  # a graph, or codes in one piece
        index.permute_entries(order)
