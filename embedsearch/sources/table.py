"""Tables: CSV, JSONL and Parquet, one item a row, with typed metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from embedsearch.errors import UsageError
from embedsearch.sources.base import Columns, ItemSource, free_name, text_hash
from embedsearch.sources.files import is_url, local_stamp
from embedsearch.sources.rows import BadRow, RowReader
from embedsearch.types import Item, Modality, Skip


def open_table(location: str, suffix: str, columns: Columns, modality: Modality | None) -> TableSource:
    """The source of a table file."""
    return TableSource(location, open_reader(location, suffix), columns, modality)


def open_reader(location: str, suffix: str) -> RowReader:
    """The rows of a table file; a walk over the whole file finds the types of its columns first."""
    if suffix in (".parquet", ".pq"):
        from embedsearch.sources.parquet import ParquetReader

        return ParquetReader(location)
    if suffix in (".jsonl", ".ndjson"):
        from embedsearch.sources.jsonl import JSONLReader

        return JSONLReader(location)
    from embedsearch.sources.csv import CSVReader

    return CSVReader(location, delimiter="\t" if suffix == ".tsv" else ",")


class TableSource(ItemSource):
    """Rows of a table. Without an id column, the id is the number of the row, counted from 1.

    Paths in the image column are relative to the table's own folder. The text column stays among the
    metadata, so that answers can be read. Raises UsageError for a column that is not there.
    """

    def __init__(self, location: str, reader: RowReader, columns: Columns, modality: Modality | None) -> None:
        self.location = location
        self._reader = reader
        names = reader.schema.names
        self._id = _column(location, names, columns.id, "id")
        text = None if columns.image and not columns.text else _column(location, names, columns.text, "text")
        image = None if columns.text and not columns.image else _column(location, names, columns.image, "image")
        if modality is Modality.TEXT or (modality is None and image is None):
            self.modality, self._content = Modality.TEXT, text
        else:
            self.modality, self._content = Modality.IMAGE, image
        if self._content is None:
            raise UsageError(
                f"{location} has no column named {self.modality.value!r}; "
                f"name one with --{self.modality.value}-column: {', '.join(names) or 'the table has no columns'}"
            )
        if modality is None and text is not None and image is not None:
            raise UsageError(
                f"{location} has a text column {text!r} and an image column {image!r}; "
                "say which one to index with --modality text or --modality image"
            )
        self._metadata: dict[str, str] = {}  # column of the file -> column of the store
        for name in names:
            if name != self._id and not (name == self._content and self.modality is Modality.IMAGE):
                self._metadata[name] = free_name(name, set(self._metadata.values()))

    @property
    def is_numbered(self) -> bool:
        return self._id is None

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(to, self._reader.schema.field(name).type) for name, to in self._metadata.items()])

    @property
    def renamed(self) -> dict[str, str]:
        return {name: to for name, to in self._metadata.items() if name != to}

    def count(self) -> int | None:
        return self._reader.count()

    def __iter__(self) -> Iterator[Item | Skip]:
        for number, row in enumerate(self._reader, start=1):
            if isinstance(row, BadRow):
                yield Skip(str(number), self.location, row.reason)
                continue
            raw = number if self._id is None else row.get(self._id)
            if raw is None or raw == "":
                yield Skip(f"row {number}", self.location, f"the id column {self._id!r} is empty")
                continue
            yield self._item(str(raw), row)

    def _item(self, item_id: str, row: Mapping[str, Any]) -> Item | Skip:
        content = row.get(str(self._content))
        content = "" if content is None else str(content)
        typed = self._reader.convert(row)
        metadata = {to: typed.get(name) for name, to in self._metadata.items()}
        about = text_hash(repr(sorted(metadata.items())))  # a changed price is a changed item too
        if self.modality is Modality.TEXT:
            return Item(item_id, content=content, fingerprint=f"{text_hash(content)}-{about}", metadata=metadata)
        if not content:
            return Skip(item_id, self.location, f"the image column {self._content!r} is empty")
        uri = self._resolve(content)
        return Item(item_id, uri=uri, fingerprint=f"{text_hash(uri)}-{local_stamp(uri)}-{about}", metadata=metadata)

    def _resolve(self, path: str) -> str:
        if is_url(path) or path.startswith("/"):
            return path
        return f"{self.location.rpartition('/')[0]}/{path}"


def _column(location: str, names: list[str], asked: str | None, usual: str) -> str | None:
    if asked is not None and asked not in names:
        raise UsageError(f"{location} has no column {asked!r}; it has: {', '.join(names) or 'no columns'}")
    return asked or (usual if usual in names else None)
