"""The metadata columns of a source beside those that an index has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from embedsearch.config import Recipe
from embedsearch.errors import UsageError
from embedsearch.pipeline.chunks import store_schema
from embedsearch.sources import ArraySource, ItemSource
from embedsearch.store import ItemStore
from embedsearch.types import Item

_BLOCK = 65536
# within one of these, whether a value fits is found out value by value
_FAMILIES: tuple[Callable[[pa.DataType], bool], ...] = (
    kinds.is_integer,
    kinds.is_floating,
    kinds.is_boolean,
    kinds.is_timestamp,
    kinds.is_date,
    kinds.is_decimal,
    lambda kind: kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind),
    lambda kind: kinds.is_binary(kind) or kinds.is_large_binary(kind),
)


def fitted_columns(store: ItemStore, source: ItemSource | ArraySource, recipe: Recipe) -> pa.Schema:
    """The metadata columns to write for `source`, in the types that the index keeps; those it lacks as they are.

    Raises UsageError naming the column and both types where they do not fit.
    """
    fields = []
    for field in store_schema(source, recipe):
        if field.name not in store.schema.names:
            if not kinds.is_null(field.type):  # says nothing of any item
                fields.append(field)
            continue
        kept = store.schema.field(field.name).type
        if not _takes(kept, field.type):
            _require_empty(source, field, kept)
        fields.append(pa.field(field.name, kept))
    return pa.schema(fields)


def missing_columns(store: ItemStore, columns: pa.Schema) -> pa.Schema:
    """What `store` lacks of `columns`, and of what is kept about every row since format 3."""
    own = pa.field("added_from", pa.string())
    return pa.schema([field for field in [own, *columns] if field.name not in store.schema.names])


def _takes(kept: pa.DataType, given: pa.DataType) -> bool:
    """Whether values of one type can be kept as another, without becoming something else."""
    kept, given = _plain(kept), _plain(given)
    if kept == given or kinds.is_null(given) or any(fits(kept) and fits(given) for fits in _FAMILIES):
        return True
    if kinds.is_floating(kept):
        return bool(kinds.is_integer(given))
    # numbers and days read as text are what was written: columns of codes are guessed to be numbers where all are
    return bool(_FAMILIES[6](kept) and (kinds.is_integer(given) or kinds.is_date(given)))


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if kinds.is_dictionary(kind) else kind


def _require_empty(source: ItemSource | ArraySource, field: pa.Field, kept: pa.DataType) -> None:
    """A column without any value is typed as text, and fits all the same."""
    for item_id, metadata in _metadata(source):
        value = metadata.get(field.name)
        if value is not None:
            raise UsageError(
                f"column {field.name!r} holds {field.type} in {source.location} ({value!r} at id {item_id!r}), and "
                f"{kept} in the index; bring it to that type, or give it another name"
            )


def _metadata(source: ItemSource | ArraySource) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(source, ArraySource):
        for ids, _, rows in source.blocks(_BLOCK):
            yield from zip(ids, rows, strict=True)
    else:
        yield from ((entry.id, entry.metadata) for entry in source if isinstance(entry, Item))
