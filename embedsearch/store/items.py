"""Reading a Lance dataset of items at one version. Rows are counted from 0 in scan order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedsearch.errors import ArtifactError, DamagedIndexError, OutdatedReaderError, UsageError
from embedsearch.store.condition import as_name, enclosed
from embedsearch.types import STORE_COLUMNS, Hit
from embedsearch.vectors import Matrix

_READ_AHEAD_BYTES = 2**23
_SOME = 20_000
_FEW_IDS = 64  # so many are read one by one: Arrow's own way takes longer to begin with
_FEW_OF_ALL = 8  # where one in so many ids is asked for, a table of all is worth making


class ItemStore:
    """One version of the dataset; it does not change under a reader."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._codes: dict[str, NDArray[np.int64]] = {}
        self._strings: dict[str, pa.Array] = {}
        self.version = int(dataset.version)
        self.dim = int(dataset.schema.field("vector").type.list_size)
        self.metadata_columns = [name for name in dataset.schema.names if name not in STORE_COLUMNS]

    @classmethod
    def open(cls, path: Path, version: int | None = None) -> Self:
        """Raises DamagedIndexError when Lance cannot open it."""
        import lance

        try:
            return cls(lance.dataset(str(path), version=version))
        except (OSError, ValueError, KeyError) as error:
            raise DamagedIndexError(f"{path} cannot be opened: {_first_line(error)}") from error

    @property
    def metadata_types(self) -> dict[str, str]:
        """Names and types of the metadata columns."""
        return {name: str(self._dataset.schema.field(name).type) for name in self.metadata_columns}

    def __len__(self) -> int:
        return int(self._dataset.count_rows())

    @property
    def n_added(self) -> int:
        """How many rows came by adds from other sources than the build's own."""
        return self.count_where("added_from IS NOT NULL") if "added_from" in self.schema.names else 0

    def count_where(self, where: str) -> int:
        """How many rows the SQL condition holds for."""
        with self._reading():
            return int(self._dataset.count_rows(filter=where))

    @property
    def schema(self) -> pa.Schema:
        return self._dataset.schema

    @cached_property
    def row_ids(self) -> NDArray[np.int64]:
        """The stable id of each row, in row order: it outlives compaction, and no other row ever has it."""
        with self._reading():
            table = self._dataset.scanner(columns=[], with_row_id=True, scan_in_order=True).to_table()
        found: NDArray[np.int64] = table["_rowid"].to_numpy().astype(np.int64)
        return found

    @property
    def n_pieces(self) -> int:
        """Fragments of the dataset; every append leaves one."""
        return len(self._dataset.get_fragments())

    @property
    def ids(self) -> pa.Array:
        """All ids in row order, one contiguous Arrow array of strings."""
        return self.strings("id")

    def strings(self, column: str) -> pa.Array:
        """A column of strings in row order, as `ids` are; kept once it was read."""
        if column not in self._strings:
            self._strings[column] = self._contiguous(column)
        return self._strings[column]

    def _contiguous(self, column: str) -> pa.Array:
        chunks = self._read(columns=[column])[column].chunks
        return pa.concat_arrays(
            [chunk.cast(pa.large_string()) for chunk in chunks] or [pa.array([], pa.large_string())]
        )

    def some(self, column: str) -> list[str]:
        """Values among which a misspelt one may be found, without comparing it with millions."""
        return [str(value) for value in self.strings(column).slice(0, _SOME).to_pylist()]

    def columns_at(self, rows: NDArray[np.int64], columns: list[str]) -> pa.Table:
        """`columns` of `rows`, in their order."""
        if len(rows) == 0:
            return pa.schema([self._dataset.schema.field(name) for name in columns]).empty_table()
        return self._take(rows, columns)

    def ids_at(self, rows: NDArray[np.int64]) -> NDArray[np.object_]:
        """The ids of `rows` (any shape), as an object array of str of that shape."""
        if rows.size <= _FEW_IDS:
            ends, text = self._id_buffers
            few = np.empty(rows.size, object)
            few[:] = [str(text[ends[row] : ends[row + 1]], "utf-8") for row in rows.ravel().tolist()]
            return few.reshape(rows.shape)
        taken = self.ids.take(pa.array(rows.ravel()))
        found: NDArray[np.object_] = taken.to_numpy(zero_copy_only=False).reshape(rows.shape)
        return found

    @cached_property
    def _id_buffers(self) -> tuple[NDArray[np.int64], memoryview]:
        """Where each id begins in the text of all of them, and where the last one ends; and that text."""
        _, ends, text = self.ids.buffers()
        first = self.ids.offset
        found = np.frombuffer(ends, np.int64)[first : first + len(self.ids) + 1] if ends else np.zeros(1, np.int64)
        return found, memoryview(text if text else b"")

    def rows_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each id, -1 where there is none."""
        if len(ids) * _FEW_OF_ALL < len(self):
            held = self.rows_with("id", ids)
            place = dict(zip(self.ids.take(pa.array(held)).to_pylist(), held.tolist(), strict=True))
            return np.array([place.get(item_id, -1) for item_id in ids], np.int64)
        found = pc.index_in(pa.array(ids, pa.large_string()), value_set=self.ids)
        rows: NDArray[np.int64] = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        return rows

    def rows_with(self, column: str, values: Sequence[str]) -> NDArray[np.int64]:
        """Every row whose `column` is one of `values`, ascending."""
        if len(values) == 0:
            return np.empty(0, np.int64)
        held = pc.is_in(self.strings(column), value_set=pa.array(values, pa.large_string()))
        return np.flatnonzero(held.to_numpy(zero_copy_only=False))

    def row_ids_with(self, column: str, values: Sequence[str]) -> NDArray[np.int64]:
        """The stable ids of those rows."""
        found: NDArray[np.int64] = self.row_ids[self.rows_with(column, values)]
        return found

    def missing(self, column: str, values: Sequence[str]) -> list[str]:
        """Those of `values` that no row has in `column`, each once."""
        there = set(self.strings(column).take(pa.array(self.rows_with(column, values))).to_pylist())
        return [value for value in dict.fromkeys(values) if value not in there]

    def codes_of(self, column: str) -> NDArray[np.int64]:
        """A number for each row, the same where the column holds the same, -1 where it holds nothing or NaN; kept once
        it was read."""
        if column not in self._codes:
            values = self._read([column])[column]
            if pa.types.is_floating(values.type):
                values = pc.if_else(pc.is_nan(values), None, values)
            found = pc.dictionary_encode(values.combine_chunks())
            found = found.chunk(0) if isinstance(found, pa.ChunkedArray) else found
            self._codes[column] = pc.fill_null(found.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
        return self._codes[column]

    def vectors_at(self, rows: NDArray[np.int64]) -> Matrix:
        """Vectors of `rows`, float32 len(rows) x D."""
        if len(rows) == 0:
            return np.empty((0, self.dim), np.float32)
        return _matrix(self._take(rows, ["vector"])["vector"], self.dim)

    def vector_blocks(self, n_rows: int = 8192) -> Iterator[Matrix]:
        """All vectors in row order, at most `n_rows` at a time."""
        for batch in self.batches(["vector"], n_rows):
            yield _matrix(batch["vector"], self.dim)

    def batches(self, columns: list[str] | None = None, n_rows: int = 8192) -> Iterator[pa.RecordBatch]:
        """Record batches in row order."""
        with self._reading():
            # Lance reads far ahead unless it is told not to, and would hold most of a store in memory
            scanner = self._dataset.scanner(
                columns=columns,
                batch_size=n_rows,
                scan_in_order=True,
                batch_readahead=1,
                fragment_readahead=1,
                io_buffer_size=_READ_AHEAD_BYTES,
            )
            yield from scanner.to_batches()

    def hits(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> list[Hit]:
        """The items of `rows` as hits, in that order."""
        if len(rows) == 0:
            return []
        records = self._take(rows, ["id", "uri", *self.metadata_columns]).to_pylist()
        return [
            Hit(record.pop("id"), float(score), rank, uri=record.pop("uri") or "", metadata=record)
            for rank, (record, score) in enumerate(zip(records, scores, strict=True), start=1)
        ]

    def rows_where(self, where: str) -> NDArray[np.int64]:
        """Rows for which the SQL condition `where` over the metadata is true, ascending.

        Raises UsageError when it does not parse, or names a column that is not there.
        """
        try:
            table = self._dataset.to_table(columns=["_rowoffset"], filter=enclosed(where))
        except UsageError:
            raise
        except BaseException as error:
            if not isinstance(error, ValueError | OSError | RuntimeError) and not _is_panic(error):
                raise
            if self._odd_columns or self._has_lost_files():
                raise self._unreadable(error) from error
            columns = ", ".join(map(as_name, ["id", *self.metadata_columns, "uri", "added_from"]))
            reason = _first_line(error).removeprefix("Invalid user input: ").partition(" Valid fields are")[0]
            reason = reason.partition(" Column names are case sensitive")[0]
            if reason == "Task was aborted" or _is_panic(error):
                reason = "the store does not know how to read it"
            raise UsageError(f"where {where!r} is not understood: {reason.rstrip('.')}; columns: {columns}") from error
        return np.sort(table["_rowoffset"].to_numpy().astype(np.int64))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Lance's own errors as ours. Rows are read where they are asked for, so files may have gone since."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, OSError | ValueError) and not _is_panic(error):
                raise
            raise self._unreadable(error) from error

    @property
    def _odd_columns(self) -> list[str]:
        """Columns that builds of before kept under names that the store cannot read; they are renamed now."""
        return [name for name in self.metadata_columns if "`" in name]

    @property
    def outdated(self) -> OutdatedReaderError | None:
        """What to tell a reader of this version where a writer has removed it, None where it is there."""
        if not self._is_outdated():
            return None
        return OutdatedReaderError(
            f"{Path(self._dataset.uri).parent} has been rebuilt since it was opened, and what is open was removed; "
            "refresh() goes over to what is there now, or open it again"
        )

    def _unreadable(self, error: BaseException) -> ArtifactError:
        if outdated := self.outdated:
            return outdated
        if self._odd_columns:
            return ArtifactError(
                f"{self._dataset.uri} has the column {self._odd_columns[0]!r}, whose name cannot be read; build it "
                "anew with --restart, which renames the column"
            )
        return DamagedIndexError(f"{self._dataset.uri} cannot be read: {_first_line(error)}")

    def _is_outdated(self) -> bool:
        """Whether a writer has removed this version, as it does with those that nobody should hold any more."""
        import lance

        try:
            uri = str(self._dataset.uri)
            if all(entry["version"] != self.version for entry in lance.dataset(uri).versions()):
                return True
            return _data_files(lance.dataset(uri, version=self.version)) != _data_files(self._dataset)
        except (OSError, ValueError):
            return False  # nothing took its place

    def _has_lost_files(self) -> bool:
        return not all(Path(self._dataset.uri, "data", name).exists() for name in _data_files(self._dataset))

    def _take(self, rows: NDArray[np.int64], columns: list[str]) -> pa.Table:
        # Lance wants each row once; search results of a batch repeat rows
        unique, inverse = np.unique(rows, return_inverse=True)
        with self._reading():
            table = self._dataset.take(pa.array(unique), columns=columns)
        return table.take(pa.array(inverse))

    def _read(self, columns: list[str]) -> pa.Table:
        return pa.Table.from_batches(
            list(self.batches(columns, 65536)),
            pa.schema([self._dataset.schema.field(name) for name in columns]),
        )


def _matrix(column: Any, dim: int) -> Matrix:
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim) for chunk in chunks]
    return np.concatenate(parts) if len(parts) != 1 else np.ascontiguousarray(parts[0])


def _data_files(dataset: Any) -> list[str]:
    return [file.path for fragment in dataset.get_fragments() for file in fragment.data_files()]


def _is_panic(error: BaseException) -> bool:
    """Whether Lance's own code gave up: such errors are no Exception."""
    return type(error).__name__ == "PanicException"


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].partition(", /")[0] if str(error) else type(error).__name__
