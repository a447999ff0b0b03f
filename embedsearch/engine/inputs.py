"""From what a user wants indexed to the source that reads it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from embedsearch.errors import UsageError
from embedsearch.pipeline.table import EmbeddingTable
from embedsearch.pipeline.table_file import TABLE_SUFFIXES
from embedsearch.sources import ArraySource, Columns, ItemSource, TensorSource, open_source, read_lines
from embedsearch.types import Modality

if TYPE_CHECKING:
    import pandas
    import pyarrow as pa

    Metadata: TypeAlias = pa.Table | pandas.DataFrame | Mapping[str, Any] | None

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
        warnings.warn(f"{n_skipped} inputs were left out, see {root / 'skipped.jsonl'}: {told}", stacklevel=3)
