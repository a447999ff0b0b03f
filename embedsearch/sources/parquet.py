"""Rows of a Parquet file, read a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embedsearch.errors import SourceError
from embedsearch.sources.files import open_binary
from embedsearch.sources.rows import BadRow


class ParquetReader:
    """The file's own types are kept; dictionary-encoded columns become plain ones."""

    def __init__(self, location: str) -> None:
        self._location = location
        with open_binary(location) as stream:
            file = self._open(stream)
            self._n_rows = file.metadata.num_rows
            names = file.schema_arrow.names
            if len(set(names)) != len(names):
                raise SourceError(f"{location} has two columns named {max(names, key=names.count)!r}")
            fields = [(field.name, _plain(field.type)) for field in file.schema_arrow]
        self.schema = pa.schema(fields)

    def count(self) -> int | None:
        return int(self._n_rows)

    def __iter__(self) -> Iterator[Mapping[str, Any] | BadRow]:
        with open_binary(self._location) as stream:
            for batch in self._open(stream).iter_batches(batch_size=1024):
                yield from batch.to_pylist()

    def convert(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        return row

    def _open(self, stream: Any) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(stream)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{self._location} is not a Parquet file: {error}") from error


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
