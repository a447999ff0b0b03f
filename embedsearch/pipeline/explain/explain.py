"""Explains one pair: what is asked, and an indexed item as it lies now where it came from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from embedsearch.errors import ItemError, UsageError
from embedsearch.pipeline.content import load_text, with_digest
from embedsearch.pipeline.explain.explanation import Explanation
from embedsearch.pipeline.explain.parts import pairs_of
from embedsearch.pipeline.explain.sides import side_of
from embedsearch.pipeline.search import Searcher
from embedsearch.sources import read_bytes
from embedsearch.types import CHUNK_COLUMNS, Metric, Modality
from embedsearch.vectors import Matrix

if TYPE_CHECKING:
    from embedsearch.pipeline.encode import Encoder

_HELD = "with what it took from the data held fixed, which sums exactly"
_SPLITS = {
    "max": "the maximum of a channel belongs to the place that attains it, in equal parts to several",
    "gem": f"each channel goes to places by x^p / sum x^p, {_HELD}",
    "gem-grid3x3": f"each channel of a cell goes to its places by x^p / sum x^p, {_HELD}",
    "rmac": f"the maximum of each region belongs to the place that attains it, {_HELD}",
    "crow": f"places by their weighted activations, {_HELD}",
}
_EXACT = "exact: the pooling is linear"
_SAME = 1e-4  # of what the parts sum to and the score of a search


def explain(searcher: Searcher, encoder: Encoder, asked: Any, item_id: str, item: Any = None) -> Explanation:
    """Why the item `item_id` has its score for what is asked.

    item: its content, where it is not where it was. Raises UnknownNameError for an id that is not there, ItemError
    when either cannot be read or the item is not what was indexed, UsageError for what has no places.
    """
    recipe = searcher.manifest.recipe
    if recipe.modality not in (Modality.IMAGE, Modality.TEXT):
        raise UsageError(
            f"{searcher.root} holds {recipe.modality.value}s, which have neither pixels nor words to show; `query` and "
            "`recommend --because` tell what is near, indexes of pictures and texts can be explained"
        )
    row = searcher.rows_of([item_id])
    content, part = _content(searcher, row, item_id, item)
    x = searcher.as_asked(encoder.encode([asked]))[0]
    stored = searcher.store.vectors_at(row)[0]
    label = asked if isinstance(asked, str) else "the query"
    query, mine, notes = side_of(encoder, asked, label)
    other, theirs, more = side_of(encoder, content, item_id, part=part)
    metric = recipe.metric
    rests = mine.rest is not None and theirs.rest is not None
    query_mean, item_mean, means = np.zeros(query.n_places), np.zeros(other.n_places), 0.0
    if rests:
        assert mine.rest is not None and theirs.rest is not None
        query_mean, item_mean = mine.projected() @ theirs.rest, theirs.projected() @ mine.rest
        means = float(mine.rest @ theirs.rest)
    squares = float(np.sum(mine.vector() ** 2) + np.sum(theirs.vector() ** 2))
    explanation = Explanation(
        metric,
        _score(x, stored, metric),
        query,
        other,
        pairs_of(mine, theirs),
        query_mean,
        item_mean,
        means,
        squares if metric is Metric.L2 else 0.0,
        _SPLITS.get(recipe.pooling, _EXACT),
    )
    told = dict.fromkeys((*notes, *more))
    if abs(explanation.rounding) > _SAME * max(1.0, abs(explanation.score)):
        told[
            f"the score differs from its parts by {explanation.rounding:+.6f}: they are computed anew, and in "
            f"{encoder.recipe.precision} a vector depends in its last digits on what was read with it"
        ] = None
    return replace(explanation, notes=tuple(told))


def _score(x: Matrix, y: Matrix, metric: Metric) -> float:
    a, b = x.astype(np.float64), y.astype(np.float64)
    return float(np.sum((a - b) ** 2)) if metric is Metric.L2 else float(a @ b)


def _content(searcher: Searcher, row: Any, item_id: str, given: Any) -> tuple[Any, int | None]:
    """What an indexed item is made of, and of a chunk its number. Raises ItemError when it is not there or is not what
    was indexed."""
    recipe, store = searcher.manifest.recipe, searcher.store
    chunked = recipe.is_chunked and CHUNK_COLUMNS[0] in store.metadata_columns
    names = ["uri", "content_hash", *(CHUNK_COLUMNS if chunked else ())]
    about = store.columns_at(row, names).to_pylist()[0]
    uri, expected = about["uri"] or "", about["content_hash"]
    told = f"{item_id!r} ({uri or 'its text'})" if given is None else f"what is given for {item_id!r}"
    moved = "; where it has moved, give its file as the item (--item FILE)" if given is None else ""
    part = None
    if chunked:
        number = item_id.removeprefix(f"{about[CHUNK_COLUMNS[0]]}#")
        part = int(number) - 1 if number != item_id and number.isdigit() else 0
    if given is None and recipe.modality is Modality.TEXT:
        given = _stored_text(store.hits(row, np.array([np.nan], np.float32))[0].metadata, expected)
    if given is None and not uri:
        raise ItemError(
            f"{item_id!r} was given as an array or text of which the index holds no copy; give it again as the item"
        )
    try:
        if given is None:
            given = uri if recipe.modality is Modality.IMAGE else read_bytes(uri)
        elif recipe.modality is Modality.TEXT and not isinstance(given, str | bytes):
            given = read_bytes(str(given))
        content, digest = with_digest(given, recipe.modality)
    except ItemError as error:
        raise ItemError(f"{told} cannot be read: {error}{moved}") from error
    if expected and digest != expected:
        if not moved:
            raise ItemError(f"{told} is not what was indexed: its content is another; give the file or text that was")
        raise ItemError(
            f"{told} is not what was indexed: its content has changed; run the build again to bring the index in line"
        )
    return content, part


def _stored_text(metadata: dict[str, Any], expected: str) -> str | None:
    """The column that holds the text that was indexed: the one with its hash."""
    for value in metadata.values():
        if isinstance(value, str) and value.strip() and load_text(value)[1] == expected:
            return value
    return None
