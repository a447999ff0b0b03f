"""Rows of a CSV or TSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from embedsearch.errors import SourceError
from embedsearch.sources.columns import TextColumn, convert_row
from embedsearch.sources.files import open_binary
from embedsearch.sources.rows import BadRow

csv.field_size_limit(2**31 - 1)  # a cell may hold a whole document


class CSVReader:
    """RFC 4180 with a header row. Rows of another width, or not UTF-8, are BadRows."""

    def __init__(self, location: str, delimiter: str) -> None:
        self._location = location
        self._delimiter = delimiter
        self._header: list[str] = []
        self._n_rows = 0
        rows = self._rows()
        self._header = _header(location, next(rows, []))
        self._columns = {name: TextColumn() for name in self._header}
        for row in rows:
            self._n_rows += 1
            parsed = self._parse(row)
            if not isinstance(parsed, BadRow):
                for name, column in self._columns.items():
                    column.observe(parsed[name])
        self.schema = pa.schema([(name, column.type) for name, column in self._columns.items()])

    def count(self) -> int | None:
        return self._n_rows

    def __iter__(self) -> Iterator[Mapping[str, Any] | BadRow]:
        rows = self._rows()
        next(rows, None)
        for row in rows:
            yield self._parse(row)

    def convert(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        return convert_row(self._columns, row)

    def _rows(self) -> Iterator[list[str]]:
        """Every row that is not blank; stray bytes come as lone surrogates, for `_parse` to find."""
        with open_binary(self._location) as binary:
            text = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")
            # strict: a quote that is never closed would swallow the rest of the file as one cell
            reader = csv.reader(text, delimiter=self._delimiter, strict=True)
            try:
                yield from (row for row in reader if row)
            except csv.Error as error:
                place = f"line {reader.line_num}"
                raise SourceError(f"{self._location} is not a CSV file: {error}, at or before {place}") from error

    def _parse(self, row: list[str]) -> dict[str, str] | BadRow:
        if len(row) != len(self._header):
            return BadRow(f"the row has {len(row)} cells, the header has {len(self._header)}")
        try:
            "".join(row).encode("utf-8")
        except UnicodeEncodeError:
            return BadRow("not UTF-8")
        return dict(zip(self._header, row, strict=True))


def _header(location: str, names: list[str]) -> list[str]:
    if not names:
        raise SourceError(f"{location} is empty: a CSV file needs a header row")
    try:
        "".join(names).encode("utf-8")
    except UnicodeEncodeError:
        raise SourceError(f"{location} is not UTF-8: its header row has other bytes; convert it to UTF-8") from None
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SourceError(f"{location} has two columns named {twice[0]!r}")
    return names
