"""An opened index, ready to be asked."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedsearch.artifact.skipped import skip_reasons
from embedsearch.config import FROM_FACTORY, MODULE_SCHEME, Recipe, is_own
from embedsearch.errors import ContradictionError, UsageError
from embedsearch.pipeline.group import best_of_each_text
from embedsearch.pipeline.search import Searcher
from embedsearch.postprocess import Postprocess, Projection
from embedsearch.types import Hit, Hits, Modality
from embedsearch.vectors import Matrix, as_matrix

if TYPE_CHECKING:
    from embedsearch.pipeline.encode import Encoder


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where parts of the encoder are now, if not where the manifest says: the path of the weights, the network
    or its name, the preprocess or its name."""

    weights: str | None = None
    backbone: Any = None
    preprocess: str | Callable[[Any], Any] | None = None


class Index:
    """One committed generation of an index folder; safe to use from many threads.

    Scores: cosine and ip are inner products, larger is more alike; l2 is the squared Euclidean
    distance, smaller is more alike. Searching by vector or id never loads torch.
    """

    def __init__(self, searcher: Searcher, elsewhere: Elsewhere | None = None) -> None:
        self._searcher = searcher
        self._elsewhere = elsewhere or Elsewhere()
        self._encoder: Encoder | None = None
        self._encoder_lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._searcher.store)

    def __repr__(self) -> str:
        manifest = self._searcher.manifest
        return f"<Index {self._searcher.root}: {len(self)} x {manifest.dim}, {manifest.recipe.metric}>"

    @property
    def path(self) -> Path:
        """The folder of the index."""
        return self._searcher.root

    def search(
        self,
        query: Any = None,
        *,
        vector: ArrayLike | None = None,
        k: int = 10,
        where: str | None = None,
        min_score: float | None = None,
        group: bool = False,
    ) -> Hits:
        """The k items most like one query, best first.

        query: a path, URL, PIL image or array for an index of pictures; a text for an index of texts.
        vector: float D instead, or of the source's width for vectors indexed with pca or whiten. where: an
        SQL condition over the metadata, such as "price < 20", that hits must meet. min_score: leaves out
        hits that score less (not for l2). group: of an index of chunks, the best chunk of each text only.
        Returns Hits, a list of Hit whose `note` says why fewer than k came back.
        Raises ItemError when the query cannot be read, UsageError for wrong arguments.
        """
        if (query is None) == (vector is None):
            raise UsageError("search takes either a query or vector=, not both and not none")
        if query is not None:
            return self.search_many([query], k=k, where=where, min_score=min_score, group=group)[0]
        assert vector is not None
        return self._answers(self._as_queries(vector), k, where, min_score, group)[0]

    def search_many(
        self,
        queries: Sequence[Any] = (),
        *,
        vectors: ArrayLike | None = None,
        k: int = 10,
        where: str | None = None,
        min_score: float | None = None,
        group: bool = False,
    ) -> list[Hits]:
        """One answer a query, encoded and searched as one batch; see `search`.

        vectors: float N x D instead of queries. For arrays without metadata `search_vectors` is faster.
        """
        if vectors is not None:
            return self._answers(self._as_queries(vectors), k, where, min_score, group)
        if len(queries) == 0:
            return []
        return self._answers(self.encoder.encode(queries), k, where, min_score, group)

    def similar(
        self,
        item_id: str,
        *,
        k: int = 10,
        where: str | None = None,
        min_score: float | None = None,
        group: bool = False,
    ) -> Hits:
        """The k items most like an indexed one, itself left out; with group=True, all chunks of its text.

        Raises UnknownNameError when no item has that id.
        """
        return self.similar_many([item_id], k=k, where=where, min_score=min_score, group=group)[0]

    def similar_many(
        self,
        ids: Sequence[str],
        *,
        k: int = 10,
        where: str | None = None,
        min_score: float | None = None,
        group: bool = False,
    ) -> list[Hits]:
        """One answer an id, searched as one batch; see `similar`."""
        own = self._searcher.rows_of(ids)
        x = self._searcher.store.vectors_at(own)
        if group:
            return self._grouped(x, k, where, min_score, own)
        rows, scores = self._searcher.search(x, _checked(k) + 1, where)
        answers = []
        for mine, found, score in zip(own, rows, scores, strict=True):
            # among exact duplicates the item itself may not be found; then the last one gives way
            others = np.flatnonzero(found != mine)[:k]
            answers.append(self._searcher.hits(found[others], score[others], k, where, min_score))
        return answers

    def search_vectors(
        self, x: ArrayLike, *, k: int = 10, where: str | None = None
    ) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
        """The fast road: ids (str) and scores (float32), both N x min(k, items to be found), best first.

        x: float32 N x D (or D, as one row). where: as in `search`. Where an approximate index found
        fewer, the id is None and the score NaN. Raises UsageError for another width, NaN, or k < 1.
        """
        rows, scores = self._searcher.search(self._as_queries(x), _checked(k), where)
        if rows.size and rows.min() < 0:
            ids = self._searcher.store.ids_at(np.maximum(rows, 0))
            ids[rows < 0] = None
            return ids, scores
        return self._searcher.store.ids_at(rows), scores

    def vectors(self, ids: Sequence[str]) -> Matrix:
        """The stored vectors of `ids`, float32 len(ids) x D. Raises UnknownNameError for an unknown id."""
        if isinstance(ids, str):
            raise UsageError("vectors takes a list of ids")
        return self._searcher.store.vectors_at(self._searcher.rows_of(list(ids)))

    def save_sheet(self, queries: Sequence[tuple[str, Any]], answers: Sequence[Hits], path: str | Path) -> None:
        """Draws answers as one picture, a row a query.

        queries: a label and what to show for each query: a path, PIL image or text, or None.
        """
        from embedsearch.pipeline.sheet import save_sheet

        save_sheet(queries, answers, self.modality, Path(path))

    @property
    def modality(self) -> Modality:
        """What the items are made of."""
        return self._searcher.manifest.recipe.modality

    def item(self, item_id: str) -> Hit:
        """One indexed item with its metadata, as a hit of rank 1 whose score is NaN."""
        return self._searcher.store.hits(self._searcher.rows_of([item_id]), np.array([np.nan], np.float32))[0]

    def info(self) -> dict[str, Any]:
        """The manifest as plain data: recipe, counts, index and its measured recall, versions, sizes, and
        how often each reason stands in skipped.jsonl."""
        body = self._searcher.manifest.to_dict()
        sizes = {name: int(record["size"]) for name, record in body.pop("files").items()}
        store = sum(size for name, size in sizes.items() if "/" in name)
        return {
            "path": str(self.path),
            **body,
            "skipped": skip_reasons(self.path),
            "metadata_columns": self._searcher.store.metadata_types,
            "disk_bytes": sum(sizes.values()),
            "store_bytes": store,
            "index_bytes": sizes[self._searcher.manifest.index.file],
        }

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return self._searcher.store.dim

    @property
    def ids(self) -> list[str]:
        """All ids, in row order."""
        return [str(item_id) for item_id in self._searcher.store.ids.to_pylist()]

    @property
    def encoder(self) -> Encoder:
        """The encoder the index was built with, loaded on first use (this imports torch).

        Raises ContradictionError for an index of plain vectors, WeightsError when its weights are not here.
        """
        with self._encoder_lock:
            if self._encoder is None:
                self._encoder = self._load_encoder()
        return self._encoder

    def _as_queries(self, x: ArrayLike) -> Matrix:
        """Vectors of the index's own space; where a projection was fitted on given vectors, those of the
        width it takes are passed through it."""
        matrix = as_matrix(x)
        manifest = self._searcher.manifest
        if (
            matrix.shape[1] == self.dim
            or manifest.postprocess is None
            or manifest.recipe.modality is not Modality.VECTOR
        ):
            return as_matrix(matrix, self.dim)
        postprocess = Postprocess(manifest.recipe.normalize, Projection.load(self.path / manifest.postprocess))
        width = len(postprocess.projection.mean) if postprocess.projection else 0
        if matrix.shape[1] != width:
            raise UsageError(f"vectors have {matrix.shape[1]} dimensions, the index has {self.dim}, its source {width}")
        return postprocess(matrix)

    def _load_encoder(self) -> Encoder:
        manifest = self._searcher.manifest
        if manifest.recipe.modality is Modality.VECTOR:
            raise ContradictionError(f"{self.path} holds plain vectors; ask by id or by vector")
        from embedsearch.pipeline.encode import Encoder

        projection = Projection.load(self.path / manifest.postprocess) if manifest.postprocess else None
        moved = self._elsewhere
        recipe = manifest.recipe if moved.weights is None else replace(manifest.recipe, weights=moved.weights)
        if isinstance(moved.backbone, str):
            _require_same_kind(manifest.recipe.backbone, moved.backbone)
            recipe = replace(recipe, backbone=moved.backbone)
        if moved.preprocess is not None:
            _require_code(manifest.recipe, moved.preprocess)
        module = None if isinstance(moved.backbone, str) else moved.backbone
        return Encoder.from_recipe(recipe, projection=projection, module=module, preprocess=moved.preprocess)

    def _grouped(
        self, x: Matrix, k: int, where: str | None, min_score: float | None, own: NDArray[np.int64] | None = None
    ) -> list[Hits]:
        found = best_of_each_text(self._searcher, x, _checked(k), where, own)
        return [self._searcher.hits(r, s, k, where, min_score, "texts") for r, s in found]

    def _answers(
        self, x: Matrix, k: int, where: str | None, min_score: float | None, group: bool = False
    ) -> list[Hits]:
        if group:
            return self._grouped(x, k, where, min_score)
        rows, scores = self._searcher.search(x, _checked(k), where)
        return [self._searcher.hits(r, s, k, where, min_score) for r, s in zip(rows, scores, strict=True)]


def _require_same_kind(built_with: str | None, given: str) -> None:
    own = ("module:", "keras:", "memory:")
    if not (str(built_with).startswith(own) and given.startswith(own)):
        raise ContradictionError(
            f"the index was built with backbone {built_with!r}, which is found by its name; {given!r} is not asked for"
        )


def _require_code(recipe: Recipe, preprocess: Any) -> None:
    """Raises ContradictionError for another preprocess than the index has, unless both are code of the user's own."""
    kept = recipe.preprocess
    is_code = not isinstance(preprocess, str) or preprocess.startswith(MODULE_SCHEME)
    is_own_kept = kept == FROM_FACTORY or is_own(str(kept))
    if preprocess != kept and not (is_own_kept and is_code):
        given = repr(preprocess) if isinstance(preprocess, str) else "a function"
        raise ContradictionError(f"the index was built with preprocess {kept!r}, not {given}; leave it out")


def _checked(k: int) -> int:
    """`k` as an int. Raises UsageError when it is none, or less than 1."""
    try:
        number = operator.index(k)
    except TypeError:
        raise UsageError(f"k is {k!r}; it must be a whole number") from None
    if number < 1:
        raise UsageError(f"k is {k}; it must be at least 1")
    return number
