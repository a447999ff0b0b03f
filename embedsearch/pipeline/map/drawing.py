"""From an index to a page with all of its items."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedsearch.errors import UsageError, counted, unknown
from embedsearch.evaluate.judgements import Labels, Pairs, folder_label
from embedsearch.pipeline.judging.judge import By
from embedsearch.pipeline.map.colour import coloured
from embedsearch.pipeline.map.coordinates import METHODS, check_installed, coordinates
from embedsearch.pipeline.map.thumbnails import thumbnails
from embedsearch.pipeline.search import Searcher
from embedsearch.presenters.map_page import Categories, Numbers, map_page
from embedsearch.presenters.out_path import check_writable
from embedsearch.types import CHUNK_COLUMNS, Modality, Progress

_TEXT = 300  # characters of a text that are shown


@dataclass(frozen=True, slots=True)
class Map:
    """What was drawn.

    ids: of the points. xy: float32 n x 2, where they are. n_items: in the index. n_thumbnails: points with a picture;
    n_unreadable: those whose picture cannot be read any more; n_over_limit: those that had to go without.
    """

    path: Path
    method: str
    ids: list[str]
    xy: NDArray[np.float32]
    n_items: int
    n_thumbnails: int
    n_unreadable: int
    n_over_limit: int


def draw_map(
    searcher: Searcher, out: Path, by: By | None, method: str, where: str | None, sample: int | None, seed: int,
    progress: Progress,
) -> Map:  # fmt: skip
    """See `Index.map`. by: what colours the points."""
    store, modality = searcher.store, searcher.manifest.recipe.modality
    if method not in METHODS:
        raise UsageError(f"method {method!r} is not known; valid: {', '.join(METHODS)}")
    if seed >= 2**32:
        raise UsageError(f"seed is {seed}; it must be below 2 ** 32")
    check_installed(method)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"map {out} must end in .html")
    check_writable(out, f"map {out}")
    if by is not None and by.kind == "column" and by.column not in store.metadata_columns:
        raise unknown("column", by.column, store.metadata_columns)
    if by is not None and isinstance(by.judgements, Pairs):
        raise UsageError("pairs of query and id give an item no label that could colour it; labels are id,label")
    rows = np.arange(len(store)) if where is None else store.rows_where(where)
    if sample is not None and sample < len(rows):
        rows = np.sort(np.random.default_rng(seed).choice(rows, sample, replace=False))
    try:
        progress.stage(f"two dimensions by {method}", None)
        xy = coordinates(store.vectors_at(rows), method, seed)
        table = store.columns_at(rows, ["id", "uri", *store.metadata_columns])
        ids = [str(item_id) for item_id in table["id"].to_pylist()]
        made, n_unreadable = [""] * len(rows), 0
        if modality is Modality.IMAGE:
            made, n_unreadable = thumbnails([uri or "" for uri in table["uri"].to_pylist()], seed, progress)
    finally:
        progress.close()
    colour = None if by is None else _colour(by, table, ids)
    n_thumbnails = sum(map(bool, made))
    of_all = "" if len(rows) == len(store) else f" of {len(store):,}"
    told = f"{counted(len(rows), 'item')}{of_all}, {method}. Drag to move, scroll to zoom, double-click for all."
    page = map_page(searcher.root.absolute().name, told, xy, ids, _texts(table), made, colour)
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(out)
    n_pictures = len(rows) if modality is Modality.IMAGE else 0
    n_over_limit = n_pictures - n_thumbnails - n_unreadable
    return Map(out, method, ids, xy, len(store), n_thumbnails, n_unreadable, n_over_limit)


def _colour(by: By, table: pa.Table, ids: list[str]) -> Categories | Numbers:
    """Raises UsageError where no point has a label."""
    if by.kind == "column":
        return coloured(by.column, table[by.column])
    if by.kind == "folders":
        labels = [folder_label(item_id) for item_id in ids]
    else:
        assert isinstance(by.judgements, Labels)
        labels = [by.judgements.of.get(item_id) for item_id in ids]
    if ids and not any(label is not None for label in labels):
        raise UsageError(
            f"no item that is drawn has a label to be coloured by; ids are like {', '.join(map(repr, ids[:3]))}"
        )
    return coloured("folder" if by.kind == "folders" else "label", pa.chunked_array([pa.array(labels, pa.string())]))


def _texts(table: pa.Table) -> list[str]:
    """The longest text of each item, cut."""
    columns = [
        table[name].to_pylist()
        for name in table.column_names
        if name not in ("id", "uri", *CHUNK_COLUMNS) and pa.types.is_string(table[name].type)
    ]
    texts = [max((value or "" for value in values), key=len) for values in zip(*columns, strict=True)]
    return [text if len(text) <= _TEXT else text[: _TEXT - 1] + "…" for text in texts] or [""] * len(table)
