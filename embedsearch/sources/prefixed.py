"""A source whose ids begin with a word, so that they are nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from embedsearch.sources.base import ItemSource
from embedsearch.types import Item, Skip


class PrefixedSource(ItemSource):
    """Another source, as it is but for the ids."""

    def __init__(self, source: ItemSource, prefix: str) -> None:
        self.location = source.location
        self.modality = source.modality
        self._source = source
        self._prefix = prefix

    def __iter__(self) -> Iterator[Item | Skip]:
        return (replace(entry, id=self._prefix + entry.id) for entry in self._source)

    def count(self) -> int | None:
        return self._source.count()

    @property
    def is_numbered(self) -> bool:
        return self._source.is_numbered

    @property
    def schema(self) -> pa.Schema:
        return self._source.schema

    @property
    def renamed(self) -> dict[str, str]:
        return self._source.renamed
