"""What an index is asked with while it is judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import ItemError, UsageError, counted
from embedsearch.evaluate.judgements import is_nothing
from embedsearch.pipeline.content import content_of
from embedsearch.pipeline.encode import Encoder
from embedsearch.pipeline.search import Rows, Searcher
from embedsearch.pipeline.walk import chunked
from embedsearch.sources import ArraySource, ItemSource
from embedsearch.types import Item, Modality, Progress, Skip
from embedsearch.vectors import Matrix, finite_rows

_AT_ONCE = 256
_REASONS = 3


@dataclass(frozen=True, slots=True)
class Queries:
    """own: the row of the judged index that each query is, -1 for none. vectors_at: float32 of some of them. column:
    the values of a metadata column. shown: path or text of some of them, for a picture. notes: what was left out."""

    ids: list[str]
    own: Rows
    vectors_at: Callable[[Rows], Matrix]
    column: Callable[[str], list[str | None]]
    shown: Callable[[Rows, str | None], list[Any]]
    notes: list[str] = field(default_factory=list)


def stored_queries(searcher: Searcher, where: str | None, *, same: bool) -> Queries:
    """Items of an index. same: it is the judged one, so that each is left out of its own answers."""
    from embedsearch.pipeline.judging.reading import column_labels

    store = searcher.store
    rows = np.flatnonzero(searcher.allowed(where)) if where else np.arange(len(store))
    if not len(rows):
        raise UsageError(f"no item of {searcher.root} {f'meets {where!r}' if where else 'is there'} to ask with")

    def column(name: str) -> list[str | None]:
        values = column_labels(store, name, searcher.root)
        return [values[row] for row in rows]

    return Queries(
        [str(item_id) for item_id in store.ids_at(rows)],
        rows if same else np.full(len(rows), -1, np.int64),
        lambda some: store.vectors_at(rows[some]),
        column,
        lambda some, without: shown_rows(searcher, rows[some], without),
    )


def shown_rows(searcher: Searcher, rows: Rows, without: str | None) -> list[Any]:
    """What a picture shows of items: their paths, or their longest text, that of the column `without` apart."""
    hits = searcher.store.hits(rows, np.zeros(len(rows), np.float32))
    if searcher.manifest.recipe.modality is Modality.IMAGE:
        return [hit.uri for hit in hits]
    return [
        max(
            (value for name, value in hit.metadata.items() if isinstance(value, str) and name != without),
            key=len,
            default=hit.id,
        )
        for hit in hits
    ]


def encoded_queries(source: ItemSource, encoder: Encoder, progress: Progress) -> Queries:
    """Inputs of a source, by the encoder of the index. What cannot be read is left out, and told."""
    vectors: list[Matrix] = []
    items: list[Item] = []
    skips: list[Skip] = []
    seen: set[str] = set()
    progress.stage("encoding the queries", source.count())
    for entries in chunked(source, _AT_ONCE):
        read: list[Item] = []
        contents: list[Any] = []
        for entry in entries:
            if isinstance(entry, Skip):
                skips.append(entry)
                continue
            if entry.id in seen:
                skips.append(Skip(entry.id, entry.uri, "an earlier query has this id"))
                continue
            seen.add(entry.id)
            read.append(entry)
            contents.append(_content(entry, source.modality))
        if read:
            encoder.settle_precision(contents)
            encoded = encoder.pooled(contents)
            x = encoder.postprocess(encoded.vectors) if len(encoded.vectors) else np.empty((0, 0), np.float32)
            good = finite_rows(x)
            kept = [read[at] for at in encoded.kept]
            skips += [Skip(read[at].id, read[at].uri, str(error)) for at, error in encoded.failures]
            skips += [Skip(item.id, item.uri, "not finite") for item, ok in zip(kept, good, strict=True) if not ok]
            items += [item for item, ok in zip(kept, good, strict=True) if ok]
            vectors += [x[good]] if good.any() else []
        progress.advance(len(entries))
    if not items:
        raise UsageError(f"{source.location} holds no query that can be read{_told(skips)}")
    x = np.concatenate(vectors)

    def column(name: str) -> list[str | None]:
        _require_column(name, source.schema.names, source.location)
        return [_text(item.metadata.get(name)) for item in items]

    return Queries(
        [item.id for item in items],
        np.full(len(items), -1, np.int64),
        lambda some: x[some],
        column,
        lambda some, _: [items[at].content if items[at].content is not None else items[at].uri for at in some],
        [f"{counted(len(skips), 'query input')} left out{_told(skips)}"] if skips else [],
    )


def array_queries(source: ArraySource, as_queries: Callable[[Any], Matrix]) -> Queries:
    """Rows of vectors."""
    blocks = list(source.blocks(8192))
    ids = [item_id for block in blocks for item_id in block[0]]
    if not ids:
        raise UsageError(f"{source.location} holds no query")
    x = as_queries(np.concatenate([block[1] for block in blocks]))
    rows = [row for block in blocks for row in block[2]]

    def column(name: str) -> list[str | None]:
        _require_column(name, source.schema.names, source.location)
        return [_text(row.get(name)) for row in rows]

    own: NDArray[np.int64] = np.full(len(ids), -1, np.int64)
    return Queries(ids, own, lambda some: x[some], column, lambda some, _: [ids[at] for at in some])


def _content(item: Item, modality: Modality) -> Any:
    """What the encoder takes, or the reason why it cannot be read."""
    try:
        return content_of(item, modality)
    except ItemError as error:
        return error


def _require_column(name: str, names: list[str], location: str) -> None:
    if name not in names:
        raise UsageError(f"the queries of {location} have no column {name!r}; they have: {', '.join(names) or 'none'}")


def _text(value: Any) -> str | None:
    return None if is_nothing(value) else str(value)


def _told(skips: list[Skip]) -> str:
    """How often the most frequent reasons stand there, each with one input."""
    first: dict[str, str] = {}
    for skip in skips:
        first.setdefault(skip.reason, skip.id)
    counts = Counter(skip.reason for skip in skips).most_common(_REASONS)
    return "".join(f"; {n:,} x {reason} (such as {first[reason]})" for reason, n in counts)
