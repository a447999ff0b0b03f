"""What a table's file format offers: rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that its reader could not parse."""

    reason: str


class RowReader(Protocol):
    """A file format: rows as dictionaries, as they stand in the file."""

    schema: pa.Schema

    def __iter__(self) -> Iterator[Mapping[str, Any] | BadRow]: ...

    def convert(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values of a row as the schema types them; the row itself has them as they are spelt."""

    def count(self) -> int | None: ...
