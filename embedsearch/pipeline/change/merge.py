"""Rows of an add into the store, in the place of what they replace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedsearch.pipeline.change.opening import Change
from embedsearch.pipeline.chunks import input_column
from embedsearch.pipeline.columns import missing_columns
from embedsearch.store import StoreWriter
from embedsearch.types import CHUNK_COLUMNS

_UPDATE_ROWS = 65536


@dataclass(frozen=True, slots=True)
class Merged:
    """How many inputs were new, took the place of other content, or kept their vectors and changed otherwise."""

    n_new: int
    n_replaced: int
    n_refreshed: int

    @property
    def is_nothing(self) -> bool:
        return self.n_new + self.n_replaced + self.n_refreshed == 0


class Merge:
    """Several writes, of which none shows before the commit.

    A row whose vector is what is stored is updated where it stands, so that the index goes on knowing it; any other is
    appended, and what an input had before is deleted.
    """

    def __init__(self, change: Change, columns: pa.Schema) -> None:
        """columns: metadata that the rows will have."""
        self._change = change
        self._columns = columns
        self._key = input_column(change.manifest.recipe)
        self._writer: StoreWriter | None = None
        self._inputs: set[str] = set()
        self._moved: set[str] = set()  # inputs of which a row has another vector than before
        self._kept_rows: list[NDArray[np.int64]] = []

    def add(self, batches: Callable[[], Iterator[pa.RecordBatch]]) -> None:
        """batches: gives the same batches of rows each time it is called. Rows of one input come in one add."""
        kept = [self._look_at(batch) for batch in batches()]
        if not kept:
            return
        if self._writer is None:
            self._writer = self._change.writer()
            if missing := list(missing_columns(self._change.store, self._columns)):
                self._writer.add_columns(pa.schema(missing))
        if not all(mask.all() for mask in kept):
            self._writer.append_all(
                batch.filter(pa.array(~mask)) for batch, mask in zip(batches(), kept, strict=True) if not mask.all()
            )
        waiting: list[pa.RecordBatch] = []
        for batch, mask in zip(batches(), kept, strict=True):
            if mask.any():
                waiting.append(self._with_metadata(batch.filter(pa.array(mask))))
                if sum(map(len, waiting)) >= _UPDATE_ROWS:
                    self._writer.update(pa.Table.from_batches(waiting))
                    waiting = []
        if waiting:
            self._writer.update(pa.Table.from_batches(waiting))

    def _with_metadata(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of a source that says nothing but what its items are, with what is known about them."""
        store = self._change.store
        names = [name for name in store.metadata_columns if name not in batch.schema.names]
        if set(self._columns.names) - set(CHUNK_COLUMNS) or not names:
            return batch
        known = store.columns_at(store.rows_of(batch["id"].to_pylist()), names).combine_chunks()
        for name in names:
            batch = batch.append_column(name, known[name].combine_chunks())
        return batch

    def finish(self) -> tuple[StoreWriter | None, Merged]:
        """Deletes what was replaced. The writer, None where nothing was written, and what was done."""
        store = self._change.store
        if self._writer is None:
            return None, Merged(0, 0, 0)
        inputs = sorted(self._inputs)
        before = store.rows_with(self._key, inputs)
        gone = np.setdiff1d(before, np.concatenate(self._kept_rows))
        if len(gone):
            self._writer.delete_rows(store.row_ids[gone])
            self._moved.update(store.columns_at(gone, [self._key])[self._key].to_pylist())
        new = store.missing(self._key, inputs)
        n_replaced = len(self._moved.difference(new))
        return self._writer, Merged(len(new), n_replaced, len(inputs) - len(new) - n_replaced)

    def _look_at(self, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """For each row, whether it is stored under its id with the very same vector."""
        store = self._change.store
        rows = store.rows_of(batch["id"].to_pylist())
        there = np.flatnonzero(rows >= 0)
        kept = np.zeros(len(batch), np.bool_)
        if len(there):
            x = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
            kept[there] = (x[there] == store.vectors_at(rows[there])).all(axis=1)
        inputs = batch[self._key].to_pylist()
        self._inputs.update(inputs)
        self._moved.update(inputs[i] for i in np.flatnonzero(~kept))
        self._kept_rows.append(rows[kept])
        return kept
