"""Windows of long texts as items of their own: their ids, their columns, and what belongs together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from embedsearch.config import Recipe
from embedsearch.sources import ArraySource, ItemSource
from embedsearch.types import CHUNK_COLUMNS, Item

_LIKE_A_CHUNK = re.compile(r".*#\d+", re.DOTALL)
_OF, _START, _END = CHUNK_COLUMNS


def chunk_ids(item_id: str, n_chunks: int) -> list[str]:
    """doc#1, doc#2, ... for several chunks; a text of one keeps its id.

    Unless that looks like the id of a chunk: then no two texts can claim the same one.
    """
    if n_chunks == 1 and not _LIKE_A_CHUNK.fullmatch(item_id):
        return [item_id]
    return [f"{item_id}#{number}" for number in range(1, n_chunks + 1)]


def chunk_metadata(item: Item, spans: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """The metadata of each chunk of an item: that of the item, and where in its text the chunk is."""
    return [{**item.metadata, _OF: item.id, _START: start, _END: end} for start, end in spans]


def store_schema(source: ItemSource | ArraySource, recipe: Recipe) -> pa.Schema:
    """The metadata columns of the store."""
    schema = source.schema
    if recipe.is_chunked:
        for name, kind in ((_OF, pa.string()), (_START, pa.int64()), (_END, pa.int64())):
            schema = schema.append(pa.field(name, kind))
    return schema


def input_column(recipe: Recipe) -> str:
    """The column of the store that holds the id of a row's input."""
    return _OF if recipe.is_chunked else "id"


def long_texts_condition(recipe: Recipe) -> str:
    """An SQL condition that is true once for each text that was longer than the network reads."""
    return f"truncated AND id = concat({_OF}, '#1')" if recipe.is_chunked else "truncated"
