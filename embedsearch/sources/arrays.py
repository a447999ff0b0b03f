"""Vectors that already exist: a matrix in memory or a .npy file, with ids and metadata beside it."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from embedsearch.errors import SourceError, UsageError
from embedsearch.sources.base import free_name
from embedsearch.sources.files import filesystem, local_path, open_binary
from embedsearch.types import Modality

_MISSING = ("None", "nan", "<NA>", "NaT")  # what numpy and pandas have where there is no value
IN_MEMORY = "<array>"  # the location of what was given in Python


class ArraySource:
    """Rows of a matrix N x D. Without ids, the id of a row is its number, counted from 0."""

    modality = Modality.VECTOR

    def __init__(
        self,
        matrix: NDArray[Any],
        ids: Sequence[str] | None = None,
        metadata: pa.Table | None = None,
        location: str = "",
        renamed: dict[str, str] | None = None,
    ) -> None:
        if matrix.ndim != 2 or not (np.issubdtype(matrix.dtype, np.number) or matrix.dtype == bool):
            raise UsageError(f"vectors must be a matrix N x D of numbers, not {matrix.dtype} {matrix.shape}")
        if np.iscomplexobj(matrix):
            raise UsageError("vectors must be real numbers")
        if matrix.shape[1] == 0:
            raise UsageError("vectors have 0 dimensions")
        require_as_many(len(matrix), "vectors", ids, metadata)
        self.location = location
        self._matrix = matrix
        self._ids = ids
        self._metadata = metadata
        self._prefix = ""
        self.renamed = renamed or {}

    @classmethod
    def from_file(cls, location: str) -> Self:
        """The matrix in a .npy file, mapped into memory where the file is local; never unpickles."""
        return cls(read_matrix(location), location=location)

    @classmethod
    def from_memory(cls, x: ArrayLike, ids: Sequence[Any] | None = None, metadata: Any = None) -> Self:
        """metadata: a pyarrow Table, a pandas DataFrame, or a mapping of columns."""
        table, renamed = as_table(metadata)
        return cls(as_array(x, "vectors"), given_ids(ids), table, location=IN_MEMORY, renamed=renamed)

    def described(self, ids: Sequence[Any] | None, metadata: Any) -> Self:
        """The same rows with other ids and metadata."""
        found = type(self).from_memory(self._matrix, ids, metadata)
        found.location = self.location
        return found

    def prefixed(self, prefix: str) -> Self:
        """The same rows with `prefix` before each id."""
        found = copy(self)
        found._prefix = prefix + self._prefix
        return found

    @property
    def is_numbered(self) -> bool:
        return self._ids is None

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([]) if self._metadata is None else self._metadata.schema.remove_metadata()

    @property
    def dim(self) -> int:
        return int(self._matrix.shape[1])

    def count(self) -> int:
        return len(self._matrix)

    def blocks(self, n_rows: int) -> Iterator[tuple[list[str], NDArray[np.float32], list[dict[str, Any]]]]:
        """Ids, vectors (float32 C-order) and metadata of up to `n_rows` rows at a time."""
        for start in range(0, len(self._matrix), n_rows):
            with np.errstate(over="ignore"):  # such a number becomes infinity, and its row is left out
                x = np.ascontiguousarray(self._matrix[start : start + n_rows], dtype=np.float32)
            numbers = range(start, start + len(x))
            ids = [str(i) for i in numbers] if self._ids is None else list(self._ids[start : start + len(x)])
            rows = [{}] * len(x) if self._metadata is None else self._metadata.slice(start, len(x)).to_pylist()
            if self._prefix:
                ids = [self._prefix + item_id for item_id in ids]
            yield ids, x, rows
            _release(self._matrix)


def _release(matrix: NDArray[Any]) -> None:
    """Gives back the memory that the pages of a file take, where `matrix` is mapped from one and cannot be written to.

    They are read again where they are asked for.
    """
    base: Any = matrix
    only_read = False
    while isinstance(base, np.ndarray):
        only_read |= isinstance(base, np.memmap) and base.mode == "r"
        base = base.base
    if only_read and isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)


def read_matrix(location: str) -> NDArray[Any]:
    """The array in a .npy file. Raises SourceError when there is none, or it would have to be unpickled."""
    fs, path = filesystem(location)
    try:
        if local_path(fs, path):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            with open_binary(location) as stream:
                array = np.load(stream, allow_pickle=False)
    except FileNotFoundError:
        raise SourceError(f"{location} does not exist") from None
    except (ValueError, OSError, EOFError) as error:
        # numpy's own words would advise to allow pickles
        raise SourceError(f"{location} is not a .npy file of numbers") from error
    if not isinstance(array, np.ndarray):
        raise SourceError(f"{location} holds several arrays; save one as .npy")
    return array


def given_ids(ids: Any) -> list[str] | None:
    """One id a row, each as text. Raises UsageError for what is no list of them, and for an id that is missing."""
    if ids is None:
        return None
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise UsageError(f"ids are {ids!r}; give a list with one a row, or a file with one a line")
    found = list(ids)
    for row, item_id in enumerate(found):
        if not isinstance(item_id, str) and str(item_id) in _MISSING:
            raise UsageError(f"the id in row {row} is {item_id}; every row needs one")
    return [str(item_id) for item_id in found]


def as_array(x: ArrayLike, what: str) -> NDArray[Any]:
    """`x` as numpy has it. Raises UsageError for rows that are not of one shape."""
    try:
        return np.asarray(x)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} cannot be read as one array, give rows of one shape: {error}") from error


def require_as_many(n: int, what: str, ids: Sequence[Any] | None, metadata: pa.Table | None) -> None:
    """Raises UsageError when ids or metadata are given for another number of rows than `n`."""
    for told, given in (("ids", ids), ("metadata rows", metadata)):
        if given is not None and len(given) != n:
            raise UsageError(f"{len(given)} {told} were given for {n} {what}")


def row_hash(row: NDArray[Any], metadata: dict[str, Any] | None) -> str:
    """The fingerprint of a row: 128 bits of BLAKE2b over its bytes and its metadata, as hex.

    None and {} give two hashes, for both stand in indexes: None of vectors, {} of items of a network.
    """
    digest = hashlib.blake2b(row.tobytes(), digest_size=16)
    if metadata is not None:
        digest.update(repr(sorted(metadata.items())).encode())
    return digest.hexdigest()


def as_table(metadata: Any) -> tuple[pa.Table | None, dict[str, str]]:
    """A table of metadata under names that the store can keep, and which of them are new: old -> new.

    metadata: a pyarrow Table, a pandas DataFrame, a mapping of columns, a list of mappings, or None.
    """
    if metadata is None:
        return None, {}
    try:
        if isinstance(metadata, pa.Table):
            table = metadata
        elif hasattr(metadata, "columns") and hasattr(metadata, "iloc"):
            table = pa.Table.from_pandas(metadata, preserve_index=False)
        elif isinstance(metadata, Sequence) and all(isinstance(row, Mapping) for row in metadata):
            columns = dict.fromkeys(name for row in metadata for name in row)  # a row may lack some
            table = pa.table({name: [row.get(name) for row in metadata] for name in columns})
        else:
            table = pa.table(metadata)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise UsageError(f"metadata cannot be read as a table: {error}") from error
    names: list[str] = []
    for name in table.column_names:
        names.append(free_name(name, set(names)))
    renamed = {old: new for old, new in zip(table.column_names, names, strict=True) if old != new}
    return table.rename_columns(names), renamed
