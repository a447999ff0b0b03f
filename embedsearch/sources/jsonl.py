"""Rows of a JSONL file: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from embedsearch.sources.columns import ValueColumn, convert_row
from embedsearch.sources.files import open_binary
from embedsearch.sources.rows import BadRow


class JSONLReader:
    """Objects that need not have the same fields; lines that are no JSON object are BadRows."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._n_rows = 0
        self._columns: dict[str, ValueColumn] = {}
        for row in self._rows():
            self._n_rows += 1
            if not isinstance(row, BadRow):
                for name, value in row.items():
                    self._columns.setdefault(name, ValueColumn()).observe(value)
        self.schema = pa.schema([(name, column.type) for name, column in self._columns.items()])

    def count(self) -> int | None:
        return self._n_rows

    def __iter__(self) -> Iterator[Mapping[str, Any] | BadRow]:
        yield from self._rows()

    def convert(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        return convert_row(self._columns, row)

    def _rows(self) -> Iterator[dict[str, Any] | BadRow]:
        with open_binary(self._location) as lines:
            for raw in lines:
                if raw.strip(b" \t\r\n\xef\xbb\xbf"):
                    yield _parse(raw.removeprefix(b"\xef\xbb\xbf"))


def _parse(raw: bytes) -> dict[str, Any] | BadRow:
    try:
        row = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return BadRow("not UTF-8")
    except (ValueError, RecursionError) as error:
        return BadRow(f"not JSON: {error}")
    if not isinstance(row, dict):
        return BadRow("not a JSON object")
    if b"\\u" in raw:  # an escape may stand for half a character, which no store can hold
        try:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            return BadRow("not valid Unicode: lone surrogate")
    return row
