"""Writing items: every call is one atomic commit, a new version of the Lance dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedsearch.errors import EmbedSearchError, UsageError
from embedsearch.store.items import ItemStore
from embedsearch.types import Block
from embedsearch.vectors import Matrix

_ROWS_PER_FRAGMENT = 2**20
_IDS_PER_DELETE = 500
_ROWS_PER_DELETE = 16384
_COPY_BYTES = 2**23


class StoreWriter:
    """Appends to the dataset at `path`, or starts it anew as its next version.

    Until the first write a fresh dataset does not exist; versions that readers hold stay readable.
    """

    def __init__(self, path: Path, metadata: pa.Schema, *, fresh: bool) -> None:
        self.path = path
        self._metadata = metadata
        self._fresh = fresh

    @property
    def is_empty(self) -> bool:
        """True while nothing was written since a fresh start."""
        return self._fresh

    def open(self) -> ItemStore:
        """What was written so far."""
        return ItemStore.open(self.path)

    def append(self, block: Block) -> None:
        """Adds rows whose ids are new."""
        self.write(_table(block, self._schema(block.vectors.shape[1])))

    def append_all(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Adds rows in one commit, without holding more than a batch of them. Not for a fresh dataset."""
        import lance

        schema = self.open().schema
        fitted = (part for batch in batches for part in _aligned(pa.Table.from_batches([batch]), schema).to_batches())
        with _told():
            lance.write_dataset(pa.RecordBatchReader.from_batches(schema, fitted), str(self.path), mode="append")

    def has_columns(self, metadata: pa.Schema) -> bool:
        """Whether the metadata of what was written is in these columns, and no others."""
        store = self.open()
        written = [store.schema.field(name) for name in store.metadata_columns]
        return bool(pa.schema(written).equals(pa.schema(list(metadata))))

    def replace(self, block: Block, keys: Sequence[str], column: str = "id") -> None:
        """Adds rows in the place of those whose `column` is in `keys`.

        By id that is one commit. By another column it is two: between them the old rows are gone and the
        new ones not there, which the next walk over the source mends.
        """
        if self._fresh or column != "id":
            self.delete(keys, column)
            self.append(block)
            return
        import lance

        with _told():
            merge = lance.dataset(str(self.path)).merge_insert("id")
            merge = merge.when_matched_update_all().when_not_matched_insert_all()
            merge.execute(self._aligned(_table(block, self._schema(block.vectors.shape[1]))))

    def update(self, table: pa.Table) -> None:
        """Gives stored rows, by their ids, other values in one commit; each keeps its stable row id, so that an index
        goes on knowing it: only for rows whose vectors stay."""
        import lance

        with _told():
            lance.dataset(str(self.path)).merge_insert("id").when_matched_update_all().execute(self._aligned(table))

    def delete_rows(self, row_ids: NDArray[np.int64]) -> None:
        """Removes rows by their stable ids."""
        import lance

        with _told():
            dataset = lance.dataset(str(self.path))
            for start in range(0, len(row_ids), _ROWS_PER_DELETE):
                listed = ", ".join(map(str, row_ids[start : start + _ROWS_PER_DELETE].tolist()))
                dataset.delete(f"_rowid IN ({listed})")

    def add_columns(self, columns: pa.Schema) -> None:
        """Adds columns that are null in every stored row; no data is written."""
        import lance

        with _told():
            lance.dataset(str(self.path)).add_columns(columns)

    def restore(self, version: int) -> None:
        """Makes a new version that is what `version` was; what came after it belongs to nobody any more."""
        import lance

        with _told():
            lance.dataset(str(self.path), version=version).restore()

    def delete(self, keys: Sequence[str], column: str = "id") -> None:
        """Removes the rows whose `column` is in `keys`; unknown ones are no error."""
        if self._fresh:
            return
        import lance

        with _told():
            dataset = lance.dataset(str(self.path))
            for start in range(0, len(keys), _IDS_PER_DELETE):
                quoted = ", ".join("'" + key.replace("'", "''") + "'" for key in keys[start : start + _IDS_PER_DELETE])
                dataset.delete(f"{column} IN ({quoted})")

    def rewrite(
        self, source: ItemStore, transform: Callable[[Matrix], Matrix], report: Callable[[int], None], dim: int
    ) -> None:
        """Fills the dataset anew with the rows of `source`, their vectors passed through `transform`.

        dim: width of what `transform` gives. report: is told how many rows were written.
        """
        schema = self._schema(dim)
        self._fresh = True
        self.write(schema.empty_table())
        for batch in source.batches():
            x = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(-1, source.dim)
            place = batch.schema.get_field_index("vector")
            projected = batch.set_column(place, schema.field("vector"), _vectors(transform(x)))
            self.write(_aligned(pa.Table.from_batches([projected]), schema))
            report(len(x))

    def create_empty(self, dim: int) -> None:
        """An empty dataset for vectors of `dim` dimensions, where nothing was written."""
        if self._fresh:
            self.write(self._schema(dim).empty_table())

    def write(self, table: pa.Table) -> None:
        import lance

        mode = "append"
        if self._fresh:  # overwriting makes a new version, the old ones stay
            mode = "overwrite" if latest_version(self.path) else "create"
        else:
            table = self._aligned(table)
        with _told():
            lance.write_dataset(table, str(self.path), mode=mode, enable_stable_row_ids=True)
        self._fresh = False

    def compact(self) -> None:
        """Merges the fragments that many small commits left, so that scans and look-ups are fast."""
        import lance

        with _told():
            dataset = lance.dataset(str(self.path))
            fragments = dataset.get_fragments()
            if len(fragments) > 1 or any(fragment.num_deletions for fragment in fragments):
                # pages are copied as they are where that can be done; encoding them again holds much in memory
                dataset.optimize.compact_files(
                    target_rows_per_fragment=_ROWS_PER_FRAGMENT,
                    materialize_deletions_threshold=0.0,  # rows are counted by place, so none may be a hole
                    compaction_mode="try_binary_copy",
                    binary_copy_read_batch_bytes=_COPY_BYTES,
                )

    def forget_versions(self, keep: Iterable[int]) -> None:
        """Frees the disk space of every version but the current one and those in `keep`."""
        import lance

        dataset = lance.dataset(str(self.path))
        kept = {*keep, dataset.version}
        old = [entry["version"] for entry in dataset.versions() if entry["version"] not in kept]
        if old:
            dataset.cleanup_old_versions(versions=old, delete_unverified=True)

    def _aligned(self, table: pa.Table) -> pa.Table:
        return _aligned(table, self.open().schema)

    def _schema(self, dim: int) -> pa.Schema:
        return _schema(dim, self._metadata)


def latest_version(path: Path) -> int:
    """The newest version of the dataset at `path`, 0 when there is none (or its first write was cut off)."""
    import lance

    versions = path / "_versions"
    if not versions.is_dir() or not any(versions.iterdir()):
        return 0
    return int(lance.dataset(str(path)).version)


def tracked_files(path: Path, version: int) -> list[Path]:
    """The files that make up one version of the dataset."""
    import lance

    found = []
    for batch in lance.dataset(str(path)).tracked_files(min_version=version):
        for row in batch.to_pylist():
            if row["version"] == version and row["type"] != "transaction file":
                found.append(path / row["path"])
    return found


def block_table(block: Block, metadata: pa.Schema) -> pa.Table:
    """A block as rows of the store, with these metadata columns."""
    return _table(block, _schema(block.vectors.shape[1], metadata))


def _schema(dim: int, metadata: pa.Schema) -> pa.Schema:
    own = [
        ("id", pa.string()),
        ("vector", pa.list_(pa.float32(), dim)),
        ("uri", pa.string()),
        ("content_hash", pa.string()),
        ("fingerprint", pa.string()),
        ("truncated", pa.bool_()),
        ("added_from", pa.string()),  # the source of an add; null for what the build's own source gave
    ]
    return pa.schema([*own, *metadata])


def _table(block: Block, schema: pa.Schema) -> pa.Table:
    columns: list[Any] = [
        pa.array(block.ids, pa.string()),
        _vectors(block.vectors),
        pa.array(block.uris, pa.string()),
        pa.array(block.content_hashes, pa.string()),
        pa.array(block.fingerprints, pa.string()),
        pa.array(block.truncated, pa.bool_()),
        pa.array([block.added_from] * len(block), pa.string()),
    ]
    for field in list(schema)[len(columns) :]:
        columns.append(_column(field, [row.get(field.name) for row in block.metadata]))
    return pa.Table.from_arrays(columns, schema=schema)


def _column(field: pa.Field, values: list[Any]) -> pa.Array:
    """Values of one metadata column. Raises UsageError where one does not fit."""
    try:
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            values = [value if value is None or isinstance(value, str) else str(value) for value in values]
        return pa.array(values, field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"column {field.name!r} holds what {field.type} cannot keep: {error}") from error


def _aligned(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` in the columns of `schema`: null in those that it lacks itself."""
    if table.schema.names == schema.names:
        return table
    columns = [
        table[field.name] if field.name in table.schema.names else pa.nulls(len(table), field.type) for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _vectors(x: Matrix) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(x).ravel(), pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, x.shape[1])


class _told:  # noqa: N801 - reads as a word in `with`
    """Lance's own errors (full disk, no permission, lost file) as ours, in one line."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError | RuntimeError):
            reason = str(error).splitlines()[0]
            raise EmbedSearchError(f"the store cannot be written: {reason}") from error
