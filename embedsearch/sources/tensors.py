"""Arrays that a network is to read: the rows of one array N x ..., in memory or in a .npy file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from embedsearch.errors import UsageError
from embedsearch.sources.arrays import IN_MEMORY, as_array, as_table, given_ids, read_matrix, require_as_many, row_hash
from embedsearch.sources.base import ItemSource
from embedsearch.types import Item, Modality, Skip


class TensorSource(ItemSource):
    """Rows of an array as items; without ids, the id of a row is its number, counted from 0."""

    modality: Modality = Modality.TENSOR

    def __init__(
        self,
        rows: NDArray[Any],
        ids: Sequence[Any] | None = None,
        metadata: Any = None,
        location: str = IN_MEMORY,
    ) -> None:
        """rows: N x anything, of numbers. metadata: a table, a DataFrame or a mapping of columns."""
        if rows.ndim < 2 or rows.dtype.kind not in "biuf":
            raise UsageError(f"items must be an array N x ... of real numbers, not {rows.dtype} {rows.shape}")
        self._table, self._renamed = as_table(metadata)
        require_as_many(len(rows), "items", ids, self._table)
        self.location = location
        self._rows = rows
        self._ids = given_ids(ids)

    @classmethod
    def from_file(cls, location: str) -> Self:
        """The array in a .npy file, mapped into memory where the file is local; never unpickles."""
        return cls(read_matrix(location), location=location)

    @classmethod
    def from_memory(cls, rows: ArrayLike, ids: Sequence[Any] | None = None, metadata: Any = None) -> Self:
        """rows: what numpy takes as one array."""
        return cls(as_array(rows, "items"), ids, metadata)

    def described(self, ids: Sequence[Any] | None, metadata: Any) -> Self:
        """The same rows with other ids and metadata."""
        return type(self)(self._rows, ids, metadata, self.location)

    @property
    def is_numbered(self) -> bool:
        return self._ids is None

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([]) if self._table is None else self._table.schema.remove_metadata()

    @property
    def renamed(self) -> dict[str, str]:
        return self._renamed

    def count(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Item | Skip]:
        for number, row in enumerate(self._rows):
            item_id = str(number) if self._ids is None else self._ids[number]
            metadata = {} if self._table is None else self._table.slice(number, 1).to_pylist()[0]
            array = np.array(row)  # a copy: of a mapped file, only what is looked at lies in memory
            if not np.isfinite(array).all():
                yield Skip(item_id, "", "the array holds NaN or infinity")
                continue
            yield Item(item_id, content=array, fingerprint=row_hash(array, metadata), metadata=metadata)
