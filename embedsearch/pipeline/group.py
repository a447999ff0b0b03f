"""One hit a text, of an index whose items are chunks of texts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import UsageError
from embedsearch.pipeline.search import Rows, Scores, Searcher
from embedsearch.types import CHUNK_COLUMNS
from embedsearch.vectors import Matrix

_MORE = 4  # chunks looked at for each text that is asked for, at first


def best_of_each_text(
    searcher: Searcher, x: Matrix, k: int, where: str | None, own: Rows | None = None, recall: float | None = None
) -> list[tuple[Rows, Scores]]:
    """Rows and scores of the best chunks of the k best texts, for each query; no two of one text.

    own: a row for each query whose whole text is left out. Looks at more and more chunks until there are k
    texts or no more chunks. Raises UsageError when the index was not built with chunks.
    """
    texts = _text_of_each_row(searcher)
    answers: list[tuple[Rows, Scores] | None] = [None] * len(x)
    n_chunks = k * _MORE
    while waiting := [query for query, answer in enumerate(answers) if answer is None]:
        rows, scores = searcher.search(x[waiting], n_chunks, where, recall)
        for query, found, score in zip(waiting, rows, scores, strict=True):
            there = found >= 0
            mine = None if own is None else own[query]
            found, score = _one_of_each(texts, found[there], score[there], mine)
            if len(found) >= k or rows.shape[1] < n_chunks:
                answers[query] = found[:k], score[:k]
        n_chunks *= _MORE
    return [answer for answer in answers if answer is not None]


def one_of_each_text(
    searcher: Searcher, found: list[tuple[Rows, Scores]], own: Rows | None = None
) -> list[tuple[Rows, Scores]]:
    """Of answers, best first, the best chunk of each text. own: see `best_of_each_text`."""
    texts = _text_of_each_row(searcher)
    return [
        _one_of_each(texts, rows, scores, None if own is None else own[query])
        for query, (rows, scores) in enumerate(found)
    ]


def _one_of_each(texts: NDArray[np.int64], rows: Rows, scores: Scores, own: np.int64 | None) -> tuple[Rows, Scores]:
    if own is not None:
        others = texts[rows] != texts[own]
        rows, scores = rows[others], scores[others]
    _, first = np.unique(texts[rows], return_index=True)
    first = np.sort(first)
    return rows[first], scores[first]


def _text_of_each_row(searcher: Searcher) -> NDArray[np.int64]:
    """A number for each row, the same for chunks of one text."""
    if not searcher.manifest.recipe.is_chunked:
        raise UsageError(f"{searcher.root} was not built with chunks, so there is nothing to group; see build --chunk")
    return searcher.store.codes_of(CHUNK_COLUMNS[0])
