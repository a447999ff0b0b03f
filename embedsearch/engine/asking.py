"""From vectors to answers, all on one generation."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedsearch.errors import UsageError
from embedsearch.pipeline.expansion import expanded
from embedsearch.pipeline.group import one_of_each_text
from embedsearch.pipeline.nearest import nearest
from embedsearch.pipeline.range_search import range_search
from embedsearch.pipeline.search import Searcher
from embedsearch.postprocess import Postprocess, Projection
from embedsearch.types import Hits, Metric, Modality
from embedsearch.vectors import Matrix, as_matrix


def as_queries(searcher: Searcher, x: ArrayLike) -> Matrix:
    """Vectors of the index's own space; where a projection was fitted on given vectors, those of the
    width it takes are passed through it."""
    matrix = as_matrix(x)
    manifest, dim = searcher.manifest, searcher.store.dim
    if matrix.shape[1] == dim:
        return matrix
    if manifest.postprocess is None or manifest.recipe.modality is not Modality.VECTOR:
        return as_matrix(matrix, dim)
    postprocess = _projection(searcher)
    width = source_width(searcher)
    if matrix.shape[1] != width:
        raise UsageError(f"vectors have {matrix.shape[1]} dimensions, the index has {dim}, its source {width}")
    return postprocess(matrix)


def source_width(searcher: Searcher) -> int:
    """Dimensions of the vectors that a projection was fitted on; of an index of vectors that has one."""
    projection = _projection(searcher).projection
    return len(projection.mean) if projection else 0


def _projection(searcher: Searcher) -> Postprocess:
    manifest = searcher.manifest
    with searcher.reading():
        return Postprocess(manifest.recipe.normalize, Projection.load(searcher.root / str(manifest.postprocess)))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What answers must be: how many, and of which items; see `Index.search`.

    Raises UsageError for a k that is no whole number above 0, and limits that are no numbers.
    """

    k: int | None = 10
    where: str | None = None
    min_score: float | None = None
    max_distance: float | None = None
    recall: float | None = None
    group: bool = False
    expand: int = 0

    def limit(self, metric: Metric) -> float | None:
        """The worst score that is wanted. Raises UsageError for one that `metric` does not know."""
        if self.min_score is not None and not metric.higher_is_better:
            raise UsageError("an l2 score is a squared distance, less is nearer: give max_distance, not min_score")
        if self.max_distance is not None and metric.higher_is_better:
            raise UsageError(f"max_distance is for l2; scores of {metric} grow with likeness: give min_score")
        return self.min_score if metric.higher_is_better else self.max_distance

    def __post_init__(self) -> None:
        for name in ("min_score", "max_distance"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, Real) or math.isnan(value)):
                raise UsageError(f"{name} is {value!r}; it must be a number")
        if self.k is None:
            return
        try:
            object.__setattr__(self, "k", operator.index(self.k))
        except TypeError:
            raise UsageError(f"k is {self.k!r}; it must be a whole number, or None for all") from None
        if self.k < 1:
            raise UsageError(f"k is {self.k}; it must be at least 1, or None for all")


def answers(searcher: Searcher, x: Matrix, wanted: Wanted, own: NDArray[np.int64] | None = None) -> list[Hits]:
    """One answer for each of the queries x. own: a row for each that is left out, in a group with its whole text."""
    limit = wanted.limit(searcher.manifest.recipe.metric)
    x = joined_with_answers(searcher, x, wanted, own)
    found = _all(searcher, x, limit, wanted, own) if wanted.k is None else _best(searcher, x, wanted.k, wanted, own)
    what = "texts" if wanted.group else "items"
    return [searcher.hits(rows, scores, wanted.k, wanted.where, limit, what) for rows, scores in found]


def joined_with_answers(searcher: Searcher, x: Matrix, wanted: Wanted, own: NDArray[np.int64] | None = None) -> Matrix:
    """The queries that are asked in the end: expanded, where that is wanted."""
    return expanded(searcher, x, wanted.expand, wanted.where, wanted.recall, own=own, group=wanted.group)


def _best(
    searcher: Searcher, x: Matrix, k: int, wanted: Wanted, own: NDArray[np.int64] | None
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    return nearest(searcher, x, k, wanted.where, wanted.recall, own=own, group=wanted.group)


def _all(
    searcher: Searcher, x: Matrix, limit: float | None, wanted: Wanted, own: NDArray[np.int64] | None
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """All that are near enough; where none is, the best one, whose score the note tells."""
    found = range_search(searcher, x, limit, wanted.where)
    if wanted.group:
        found = one_of_each_text(searcher, found, own)
    elif own is not None:
        found = [(rows[rows != mine], scores[rows != mine]) for mine, (rows, scores) in zip(own, found, strict=True)]
    for query in [query for query, (rows, _) in enumerate(found) if len(rows) == 0]:
        mine = None if own is None else own[[query]]
        found[query] = _best(searcher, x[[query]], 1, wanted, mine)[0]
    return found
