"""Explaining an answer, as a function of an index or its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedsearch.errors import UsageError
from embedsearch.types import Modality

if TYPE_CHECKING:
    from embedsearch.engine.index import Index
    from embedsearch.pipeline.explain.explanation import Explanation


def explain(index: Index | str | Path, query: Any, *, id: str | int, item: Any = None) -> Explanation:  # noqa: A002
    """Why an indexed item has its score for a query; see `Index.explain`. index: opened, or its folder."""
    from embedsearch.engine.index import Index
    from embedsearch.engine.opening import open as open_index

    opened = index if isinstance(index, Index) else open_index(index)
    if opened.modality in (Modality.VECTOR, Modality.TENSOR):
        what = "plain vectors" if opened.modality is Modality.VECTOR else "arrays"
        raise UsageError(
            f"{opened.path} holds {what}, which have neither pixels nor words to show; indexes of pictures and texts "
            "can be explained, and `recommend --because` tells which favourite pulled what"
        )
    from embedsearch.pipeline.explain.explain import explain as explain_pair

    searcher = opened._searcher
    with searcher.reading():
        return explain_pair(searcher, opened._encoder_of(searcher), query, str(id), item)
