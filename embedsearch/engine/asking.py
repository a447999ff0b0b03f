"""From vectors to answers, all on one generation."""

from __future__ import annotations

import operator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedsearch.errors import UsageError
from embedsearch.pipeline.group import best_of_each_text
from embedsearch.pipeline.search import Searcher
from embedsearch.postprocess import Postprocess, Projection
from embedsearch.types import Hits, Modality
from embedsearch.vectors import Matrix, as_matrix


def as_queries(searcher: Searcher, x: ArrayLike) -> Matrix:
    """Vectors of the index's own space; where a projection was fitted on given vectors, those of the
    width it takes are passed through it."""
    matrix = as_matrix(x)
    manifest, dim = searcher.manifest, searcher.store.dim
    if matrix.shape[1] == dim or manifest.postprocess is None or manifest.recipe.modality is not Modality.VECTOR:
        return as_matrix(matrix, dim)
    postprocess = Postprocess(manifest.recipe.normalize, Projection.load(searcher.root / manifest.postprocess))
    width = len(postprocess.projection.mean) if postprocess.projection else 0
    if matrix.shape[1] != width:
        raise UsageError(f"vectors have {matrix.shape[1]} dimensions, the index has {dim}, its source {width}")
    return postprocess(matrix)


def grouped(
    searcher: Searcher,
    x: Matrix,
    k: int,
    where: str | None,
    min_score: float | None,
    own: NDArray[np.int64] | None = None,
) -> list[Hits]:
    found = best_of_each_text(searcher, x, checked(k), where, own)
    return [searcher.hits(r, s, k, where, min_score, "texts") for r, s in found]


def answers(
    searcher: Searcher, x: Matrix, k: int, where: str | None, min_score: float | None, group: bool
) -> list[Hits]:
    if group:
        return grouped(searcher, x, k, where, min_score)
    rows, scores = searcher.search(x, checked(k), where)
    return [searcher.hits(r, s, k, where, min_score) for r, s in zip(rows, scores, strict=True)]


def checked(k: int) -> int:
    """`k` as an int. Raises UsageError when it is none, or less than 1."""
    try:
        number = operator.index(k)
    except TypeError:
        raise UsageError(f"k is {k!r}; it must be a whole number") from None
    if number < 1:
        raise UsageError(f"k is {k}; it must be at least 1")
    return number
