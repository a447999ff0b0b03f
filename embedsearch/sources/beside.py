"""Metadata in a file of its own, beside rows that have none."""

from __future__ import annotations

from pathlib import PurePosixPath

import pyarrow as pa

from embedsearch.errors import SourceError, UsageError
from embedsearch.sources.files import filesystem
from embedsearch.sources.opening import TABLES
from embedsearch.sources.rows import BadRow
from embedsearch.sources.table import open_reader

_USUAL_ID = "id"


def read_beside(location: str, id_column: str | None = None) -> tuple[pa.Table, list[str] | None]:
    """The columns of a table whose row i belongs to row i of something else, and the ids among them.

    id_column: the column that holds the ids; None takes `id` where there is one. Ids are None where there is no such
    column. A row that cannot be read is a SourceError, since those after it would belong to others.
    """
    suffix = PurePosixPath(filesystem(location)[1]).suffix.lower()
    if suffix not in TABLES:
        raise UsageError(f"metadata {location} is not a table; give FILE.csv, FILE.jsonl or FILE.parquet")
    reader = open_reader(location, suffix)
    rows = []
    for number, row in enumerate(reader, start=1):
        if isinstance(row, BadRow):
            raise SourceError(f"{location} cannot be read in row {number}: {row.reason}")
        rows.append(reader.convert(row))
    table = pa.Table.from_pylist(rows, schema=reader.schema)
    names = table.column_names
    if id_column is not None and id_column not in names:
        raise UsageError(f"{location} has no column {id_column!r}; it has: {', '.join(names) or 'no columns'}")
    name = id_column or (_USUAL_ID if _USUAL_ID in names else None)
    if name is None:
        return table, None
    ids = table[name].to_pylist()
    if None in ids:
        raise SourceError(f"{location} has no id in row {ids.index(None) + 1}, column {name!r}")
    return table.drop_columns([name]), [str(item_id) for item_id in ids]
