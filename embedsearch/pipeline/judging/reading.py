"""Judgements from a file, and labels from a column or from the folders of ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from embedsearch.errors import UsageError, unknown
from embedsearch.evaluate.judgements import COLUMNS, Judgements, Labels, Pairs, is_nothing, judgements_of
from embedsearch.sources.rows import BadRow, RowReader
from embedsearch.sources.table import open_reader
from embedsearch.store import ItemStore

_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq")


def read_judgements(location: str) -> Judgements:
    """The judgements in a table file. Raises UsageError for another kind of file and for what `judgements_of` refuses,
    SourceError for a file that cannot be read."""
    suffix = PurePosixPath(location).suffix.lower()
    if suffix not in _SUFFIXES:
        raise UsageError(f"labels {location} must be a table ({', '.join(_SUFFIXES)}) with {COLUMNS}")
    reader = open_reader(location, suffix)
    return judgements_of(_rows(reader, location), reader.schema.names, location)


def _rows(reader: RowReader, location: str) -> Iterator[Mapping[str, Any]]:
    for number, row in enumerate(reader, start=1):
        if isinstance(row, BadRow):
            raise UsageError(f"{location}, row {number}: {row.reason}")
        yield row


def given_judgements(labels: Any) -> Judgements:
    """Judgements of a mapping: id -> label, or query -> {id: grade} or a list of relevant ids."""
    if isinstance(labels, Labels | Pairs):
        return labels
    if not isinstance(labels, Mapping):
        raise UsageError(f"labels are {type(labels).__name__}; give a file, a mapping id -> label, or query -> ids")
    if not any(isinstance(value, Mapping | list | tuple | set) for value in labels.values()):
        rows: list[dict[str, Any]] = [{"id": item_id, "label": label} for item_id, label in labels.items()]
        return judgements_of(rows, ["id", "label"], "labels")
    rows = []
    for query, relevant in labels.items():
        if not isinstance(relevant, Mapping | list | tuple | set):
            raise UsageError(f"labels of {query!r} are {relevant!r}; of pairs each is a mapping or list of ids")
        graded = relevant if isinstance(relevant, Mapping) else dict.fromkeys(relevant, 1)
        rows += [{"query": query, "id": item_id, "grade": grade} for item_id, grade in graded.items()]
    return judgements_of(rows, ["query", "id", "grade"], "labels")


def column_labels(store: ItemStore, column: str, root: object) -> list[str | None]:
    """The label of each row, None where the column holds nothing. Raises UnknownNameError for another column."""
    if column not in store.metadata_columns:
        raise unknown("label column", column, store.metadata_columns, f"in {root}")
    codes = store.codes_of(column)
    names: dict[int, str] = {}
    labels: list[str | None] = []
    values = (value for batch in store.batches([column]) for value in batch[column].to_pylist())
    for code, value in zip(codes.tolist(), values, strict=True):
        labels.append(None if code < 0 or is_nothing(value) else names.setdefault(code, str(value)))
    return labels
