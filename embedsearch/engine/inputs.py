"""From what a user wants indexed to the source that reads it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from embedsearch.errors import UsageError, counted
from embedsearch.pipeline.table import EmbeddingTable
from embedsearch.pipeline.table_file import TABLE_SUFFIXES
from embedsearch.sources import (
    ArraySource,
    Columns,
    ItemSource,
    LinesSource,
    PrefixedSource,
    TensorSource,
    open_source,
    read_beside,
    read_lines,
)
from embedsearch.sources.arrays import given_ids
from embedsearch.types import Modality

if TYPE_CHECKING:
    import pandas
    import pyarrow as pa

    Metadata: TypeAlias = (
        pa.Table | pandas.DataFrame | Mapping[str, Any] | Sequence[Mapping[str, Any]] | str | Path | None
    )

# such a file holds a table only where a parameter is named; else vectors or items of its own, or lines of text
_OFTEN_NONE = (".npy", ".txt", ".txt.gz")
_ALWAYS = tuple(suffix for suffix in TABLE_SUFFIXES if suffix not in _OFTEN_NONE)
_SIGN = "::"  # between a file and the parameter in it


@dataclass(frozen=True, slots=True)
class Beside:
    """What goes beside a source: ids of its rows, their metadata, names of its columns, and a word before its ids.

    ids: one a row, or a file with one a line. metadata: see `Metadata`; of a file, row i belongs to row i, and its id
    column (`columns.id`, else `id`) gives ids where none are given.
    """

    ids: Sequence[Any] | str | Path | None = None
    metadata: Any = None
    columns: Columns = field(default_factory=Columns)
    id_prefix: str | None = None

    def read(self) -> tuple[Sequence[Any] | None, Any, Columns]:
        """Ids, metadata and columns, with what files hold in the place of those."""
        ids = read_lines(str(self.ids)) if isinstance(self.ids, str | Path) else self.ids
        if not isinstance(self.metadata, str | Path):
            return ids, self.metadata, self.columns
        table, own_ids = read_beside(str(self.metadata), self.columns.id)
        return own_ids if ids is None else ids, table, replace(self.columns, id=None)


def open_input(source: Any, beside: Beside, modality: Modality | None) -> ItemSource | ArraySource:
    """The source behind a path, URL, matrix or EmbeddingTable.

    modality: TENSOR reads a matrix as the input of a network. Raises SourceError, UsageError.
    """
    prefix = beside.id_prefix
    if prefix is not None and not isinstance(prefix, str):
        raise UsageError(f"id_prefix is {prefix!r}; it must be a text")
    opened = _open(source, *beside.read(), modality)
    if not prefix:
        return opened
    return opened.prefixed(prefix) if isinstance(opened, ArraySource) else PrefixedSource(opened, prefix)


def _open(
    source: Any, ids: Sequence[Any] | None, metadata: Any, columns: Columns, modality: Modality | None
) -> ItemSource | ArraySource:
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
    asked = None if modality is Modality.VECTOR else modality
    opened = open_source(str(source), modality=asked, columns=columns)
    if ids is None and metadata is None:
        return opened
    if isinstance(opened, ArraySource | TensorSource):
        return opened.described(ids, metadata)
    if not isinstance(opened, LinesSource):
        raise UsageError(
            "ids and metadata go with a matrix, an embedding table or (ids) a file of texts; a table names its columns"
        )
    if metadata is not None:
        raise UsageError("metadata goes with a matrix or an embedding table; put texts and theirs into one table")
    return LinesSource(opened.location, given_ids(ids))


def _table_in(source: str) -> tuple[str, str | None] | None:
    """The file and the parameter, if one is named, of FILE::PARAMETER and of files in which only a table can be
    meant; None for anything else. The parts of a chained URL (simplecache::s3://...) stay together."""
    path, sign, name = source.rpartition(_SIGN)
    if sign and "://" not in name:
        return (path, name or None) if path.lower().endswith(TABLE_SUFFIXES) else None
    return (source, None) if source.lower().endswith(_ALWAYS) else None


def read_as(source: Any, asked: Modality | None, with_network: bool) -> Modality | None:
    """Rows of an array are embeddings, unless a network is named that is to read them."""
    is_array = not isinstance(source, str | Path) or str(source).lower().endswith(".npy")
    if is_array and not isinstance(source, EmbeddingTable) and (with_network or asked is Modality.IMAGE):
        return Modality.TENSOR
    return asked


def warn_of_skips(root: Path, n_skipped: int, reasons: Mapping[str, int]) -> None:
    """Tells whoever called the library that inputs were left out."""
    if n_skipped:
        most = sorted(reasons.items(), key=lambda pair: -pair[1])[:3]
        told = ", ".join(f"{n} x {reason}" for reason, n in most)
        were = "was" if n_skipped == 1 else "were"
        warnings.warn(
            f"{counted(n_skipped, 'input')} {were} left out, see {root / 'skipped.jsonl'}: {told}", stacklevel=3
        )
