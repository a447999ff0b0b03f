"""Ids that only count the rows of a source are no names: two sources have the same ones for other things."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedsearch.errors import UsageError
from embedsearch.pipeline.walk import chunked
from embedsearch.sources import ArraySource, ItemSource
from embedsearch.sources.arrays import row_hash
from embedsearch.store import ItemStore
from embedsearch.types import Item
from embedsearch.vectors import Matrix

_ROWS = 8192
_MARK = "added_from"


def require_own_numbers(source: ItemSource | ArraySource, store: ItemStore, key: str, added_from: str | None) -> None:
    """Raises UsageError when an id that numbers a row of `source` is that of other content from another source.

    key: the column of `store` with the ids of inputs. added_from: as rows of `source` are marked; what was given in
    memory may be anything, so that rows of it are never those of the same source.
    """
    if not source.is_numbered or len(store) == 0:
        return
    theirs = _rows_of_others(store, added_from)
    if not theirs.any():
        return
    for ids, prints in _blocks(source):
        rows = store.rows_with(key, ids)
        rows = rows[theirs[rows]]
        if len(rows) == 0:
            continue
        mark = [_MARK] if _MARK in store.schema.names else []
        stored = store.columns_at(rows, [key, "fingerprint", *mark]).to_pylist()
        now = dict(zip(ids, prints(), strict=True))
        for entry in stored:
            if now[entry[key]] != entry["fingerprint"]:
                raise _refusal(source, entry[key], entry.get(_MARK))


def _rows_of_others(store: ItemStore, added_from: str | None) -> NDArray[np.bool_]:
    if added_from is not None and added_from.startswith("<"):
        return np.ones(len(store), np.bool_)
    if _MARK not in store.schema.names:  # before format 3 nothing was added
        return np.full(len(store), added_from is not None)
    marks = store.strings(_MARK)
    same = pc.is_null(marks) if added_from is None else pc.fill_null(pc.equal(marks, added_from), False)
    others: NDArray[np.bool_] = ~same.to_numpy(zero_copy_only=False)
    return others


def _blocks(source: ItemSource | ArraySource) -> Iterator[tuple[list[str], Callable[[], list[str]]]]:
    """Ids, and what gives their fingerprints, some rows at a time."""
    if isinstance(source, ArraySource):
        for ids, x, metadata in source.blocks(_ROWS):
            yield ids, partial(_hashes, x, metadata)
        return
    for entries in chunked((entry for entry in source if isinstance(entry, Item)), _ROWS):
        yield [item.id for item in entries], partial(list, [item.fingerprint for item in entries])


def _hashes(x: Matrix, metadata: list[dict[str, Any]]) -> list[str]:
    return [row_hash(row, about or None) for row, about in zip(x, metadata, strict=True)]


def _refusal(source: ItemSource | ArraySource, item_id: str, from_where: str | None) -> UsageError:
    other = f"from {from_where}" if from_where else "from the source of its build"
    if source.location.startswith("<"):
        other = "with other content"
    return UsageError(
        f"{source.location} has no ids of its own, so its rows are numbered, and the index has an item {item_id!r} "
        f"{other}, which is another one; give ids with --ids FILE (ids=...), a column of them with --id-column, or put "
        "a word before the numbers with --id-prefix. To replace items on purpose, give their ids"
    )
