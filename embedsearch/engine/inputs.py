"""From what a user wants indexed to the source that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedsearch.errors import UsageError
from embedsearch.pipeline.table import EmbeddingTable
from embedsearch.pipeline.table_file import TABLE_SUFFIXES
from embedsearch.sources import ArraySource, Columns, ItemSource, TensorSource, open_source, read_lines
from embedsearch.types import Modality

# such a file holds a table only where a parameter is named; else vectors or items of its own, or lines of text
_OFTEN_NONE = (".npy", ".txt", ".txt.gz")
_ALWAYS = tuple(suffix for suffix in TABLE_SUFFIXES if suffix not in _OFTEN_NONE)
_SIGN = "::"  # between a file and the parameter in it


def open_input(
    source: Any, ids: Sequence[Any] | str | Path | None, metadata: Any, modality: Modality | None, columns: Columns
) -> ItemSource | ArraySource:
    """The source behind a path, URL, matrix or EmbeddingTable.

    ids, metadata: of the rows of a matrix or table; ids may be a file with one a line. modality: TENSOR reads
    a matrix as the input of a network. Raises SourceError, UsageError.
    """
    if isinstance(ids, str | Path):
        ids = read_lines(str(ids))
    table = _table_in(str(source)) if isinstance(source, str | Path) else None
    if table is not None:
        source = EmbeddingTable.load(*table)
    if hasattr(source, "detach"):  # a torch tensor, perhaps with a gradient, perhaps on another device
        source = source.detach().cpu().numpy()
    if hasattr(source, "state_dict") or hasattr(source, "embeddings"):  # an embedding layer itself
        source = EmbeddingTable.load(source)
    if isinstance(source, EmbeddingTable):
        rows = ArraySource.from_memory(source.rows, source.ids if ids is None else ids, metadata)
        rows.location = source.location
        return rows
    if not isinstance(source, str | Path):
        kind = TensorSource if modality is Modality.TENSOR else ArraySource
        return kind.from_memory(source, ids, metadata)
    opened = open_source(str(source), modality=None if modality is Modality.VECTOR else modality, columns=columns)
    if ids is None and metadata is None:
        return opened
    if not isinstance(opened, ArraySource | TensorSource):
        raise UsageError("ids and metadata go with a matrix or an embedding table; a table names its columns instead")
    return opened.described(ids, metadata)


def _table_in(source: str) -> tuple[str, str | None] | None:
    """The file and the parameter, if one is named, of FILE::PARAMETER and of files in which only a table can be
    meant; None for anything else. The parts of a chained URL (simplecache::s3://...) stay together."""
    path, sign, name = source.rpartition(_SIGN)
    if sign and "://" not in name:
        return (path, name or None) if path.lower().endswith(TABLE_SUFFIXES) else None
    return (source, None) if source.lower().endswith(_ALWAYS) else None
