"""The items of one index or of several, under one numbering."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedsearch.best import Rows
from embedsearch.errors import UsageError, unknown
from embedsearch.pipeline.recommend.part import Part


class Catalogue:
    """Items are numbered as the rows of the first index, then as those rows of the others whose ids it lacks.

    Conditions and caps speak of the metadata of the first index.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        first = parts[0].searcher.store
        ids: pa.Array = first.ids
        # for each index the row of each item, -1 where it has none; None where rows are items
        self._rows: list[Rows | None] = [None]
        self._items: list[Rows | None] = [None]
        for part in parts[1:]:
            theirs = part.searcher.store.ids
            items = _places(theirs, ids)
            new = np.flatnonzero(items < 0)
            items[new] = len(ids) + np.arange(len(new))
            ids = pa.concat_arrays([ids, theirs.take(pa.array(new))])
            self._items.append(items)
        self._ids = ids
        for which in range(len(parts)):
            known = self._items[which]
            rows = np.full(len(ids), -1, np.int64)
            rows[np.arange(parts[which].n) if known is None else known] = np.arange(parts[which].n)
            if which == 0:
                self._rows[0] = None if len(ids) == parts[0].n else rows
            else:
                self._rows.append(rows)

    def __len__(self) -> int:
        return len(self._ids)

    @cached_property
    def holds(self) -> list[NDArray[np.bool_]]:
        """For each index, whether it holds each item."""
        return [np.ones(len(self), np.bool_) if rows is None else rows >= 0 for rows in self._rows]

    def rows(self, which: int, items: Rows) -> Rows:
        """The row of each item in one of the indexes, -1 where it is not there."""
        rows = self._rows[which]
        return items if rows is None else rows[items]

    def items(self, which: int, rows: Rows) -> Rows:
        """The item of each row of one of the indexes; -1 stays."""
        items = self._items[which]
        return rows if items is None else np.where(rows < 0, -1, items[np.maximum(rows, 0)])

    def find(self, ids: Sequence[str]) -> Rows:
        """The number of each id, -1 where no index has it."""
        if len(self.parts) == 1:
            return self.parts[0].searcher.store.rows_of(ids)
        return _places(pa.array(ids, pa.large_string()), self._ids)

    def numbers(self, ids: Sequence[str]) -> Rows:
        """The same. Raises UnknownNameError naming the first that is not there."""
        found = self.find(ids)
        if (found < 0).any():
            raise self.not_there(ids[int(np.argmax(found < 0))])
        return found

    def not_there(self, item_id: str) -> UsageError:
        """The error for an id that no index has."""
        roots = " or ".join(str(part.searcher.root) for part in self.parts)
        some = self._ids.slice(0, 20_000).to_pylist()
        return unknown("id", item_id, some, f"({len(self):,} items in {roots})")

    def ids_at(self, items: Rows) -> NDArray[np.object_]:
        """Ids of items (any shape) as an object array of str, None for -1."""
        if len(self.parts) == 1:
            found = (
                self.parts[0].searcher.store.ids_at(np.maximum(items, 0))
                if len(self)
                else np.empty(items.shape, object)
            )
        else:
            taken = self._ids.take(pa.array(np.maximum(items, 0).ravel()))
            found = np.array(taken.to_numpy(zero_copy_only=False), object).reshape(items.shape)
        if (items < 0).any():
            found = found.copy()
            found[items < 0] = None
        return found

    def allowed(self, where: str | None) -> NDArray[np.bool_] | None:
        """For each item, whether it meets a condition."""
        if where is None:
            return None
        met = np.zeros(len(self), np.bool_)
        met[: self.parts[0].n] = self.parts[0].searcher.allowed(where)
        return met

    def kinds(self, column: str) -> Rows:
        """For each item a number for its value in a column, -1 for none. Raises UnknownNameError for a column that is
        not there."""
        store = self.parts[0].searcher.store
        if column not in store.metadata_columns:
            raise unknown("column", column, store.metadata_columns, f"in {self.parts[0].searcher.root}")
        found = np.full(len(self), -1, np.int64)
        found[: self.parts[0].n] = store.codes_of(column)
        return found


def _places(wanted: pa.Array, among: pa.Array) -> Rows:
    found = pc.fill_null(pc.index_in(wanted, value_set=among), -1)
    places: Rows = found.to_numpy(zero_copy_only=False).astype(np.int64)
    return places
