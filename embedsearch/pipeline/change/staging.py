"""Rows of an add on their way: in a dataset of their own until all are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import pyarrow as pa

from embedsearch.artifact import Layout
from embedsearch.artifact.adding import Adding
from embedsearch.config import Recipe
from embedsearch.errors import EmbedSearchError
from embedsearch.pipeline.chunks import input_column
from embedsearch.store import StoreWriter
from embedsearch.store.writer import latest_version
from embedsearch.types import Block

_BATCH_ROWS = 8192


class Staging:
    """One commit a shard, as a build writes its store; so an add that was killed goes on where it was.

    resumed: rows were staged before.
    """

    def __init__(self, adding: Adding, writer: StoreWriter, key: str) -> None:
        self._adding = adding
        self._writer = writer
        self._key = key
        self.resumed = not writer.is_empty

    @classmethod
    def open(cls, layout: Layout, source: str, recipe: Recipe, columns: pa.Schema, *, restart: bool) -> Self:
        """What is staged of `source`, unless `restart`, or it cannot be read or has other metadata than `columns`."""
        adding = Adding(layout.root, source, recipe)
        if restart or not _is_of_use(adding, columns):
            adding.discard()
        writer = StoreWriter(adding.rows, columns, fresh=not adding.rows.exists())
        return cls(adding, writer, input_column(recipe))

    def staged(self) -> Iterator[tuple[str, str]]:
        """Ids and fingerprints of the inputs whose rows are here."""
        for batch in self.batches([self._key, "fingerprint"]):
            yield from zip(batch[self._key].to_pylist(), batch["fingerprint"].to_pylist(), strict=True)

    def drop(self, inputs: Sequence[str]) -> None:
        """Removes the rows of inputs that are not what they were."""
        if inputs and not self._writer.is_empty:
            self._writer.delete_rows(self._writer.open().row_ids_with(self._key, inputs))

    def append(self, block: Block) -> None:
        if len(block) == 0:
            return
        if self._writer.is_empty:
            self._adding.begin()
        self._writer.append(block)

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """What is staged, in the order it came."""
        if not self._writer.is_empty:
            yield from self._writer.open().batches(columns, _BATCH_ROWS)

    def discard(self) -> None:
        """All is committed, or nothing is wanted."""
        self._adding.discard()


def _is_of_use(adding: Adding, columns: pa.Schema) -> bool:
    try:
        if not adding.is_there() or latest_version(adding.rows) == 0:
            return False
        return StoreWriter(adding.rows, columns, fresh=False).has_columns(columns)
    except (EmbedSearchError, OSError, ValueError):
        return False  # what is staged can be had again
