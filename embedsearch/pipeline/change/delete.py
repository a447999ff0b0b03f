"""Taking items out of an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import UnknownNameError, UsageError, counted, unknown
from embedsearch.pipeline.advice import drift_of
from embedsearch.pipeline.change.commit import commit_change
from embedsearch.pipeline.change.opening import Change, changing
from embedsearch.pipeline.chunks import input_column
from embedsearch.store import ItemStore

_TOLD = 5  # unknown ids that a message names


@dataclass(frozen=True, slots=True)
class DeleteReport:
    """n_deleted: items that are gone; of an index of chunks, each chunk is one. n_items: those that are left.
    advice: why `optimize` is worth while now, or None."""

    root: Path
    n_deleted: int
    n_items: int
    advice: str | None = None


def run_delete(root: Path, ids: Sequence[str], where: str | None) -> DeleteReport:
    """Deletes the items of `ids` and those for which the SQL condition `where` holds; one commit.

    Of an index of chunks, ids are those of texts, and a text goes with all its chunks. Raises UnknownNameError when an
    id is not there, UsageError when nothing is asked for or the condition is not understood: then nothing is deleted.
    """
    if not ids and where is None:
        raise UsageError("nothing is asked to be deleted; give ids, or a condition with where")
    with changing(root) as change:
        rows = _rows(change, ids, where)
        if len(rows) == 0:
            return DeleteReport(root, 0, len(change.store))
        writer = change.writer()
        writer.delete_rows(change.store.row_ids[rows])
        manifest = commit_change(change, writer)
        return DeleteReport(root, len(rows), manifest.n_items, drift_of(root, manifest, writer.open()).advice)


def _rows(change: Change, ids: Sequence[str], where: str | None) -> NDArray[np.int64]:
    store, key = change.store, input_column(change.manifest.recipe)
    found = store.rows_with(key, ids)
    if where is not None:
        rows = store.rows_where(where)
        if key != "id":  # half a text is no text
            numbers = store.codes_of(key)
            rows = np.flatnonzero(np.isin(numbers, numbers[rows]))
        found = np.union1d(found, rows)
    missing = store.missing(key, ids)
    if missing:
        raise _unknown(store, missing, key, root=change.layout.root)
    return found


def _unknown(store: ItemStore, missing: list[str], key: str, root: Path) -> UnknownNameError:
    if key != "id" and (row := int(store.rows_of(missing[:1])[0])) >= 0:
        text = store.columns_at(np.array([row]), [key])[key][0].as_py()
        return UnknownNameError(
            f"id {missing[0]!r} is a chunk of {text!r}; a text goes with all its chunks, "
            f"so give the id {text!r}; nothing was deleted"
        )
    if len(missing) == 1:
        return unknown(
            "id", missing[0], store.some(key), f"({counted(len(store), 'item')} in {root}; nothing was deleted)"
        )
    told = ", ".join(map(repr, missing[:_TOLD])) + (", ..." if len(missing) > _TOLD else "")
    return UnknownNameError(f"{len(missing)} ids are not in {root}: {told}; nothing was deleted")
