"""Embedding tables: the rows of an embedding layer, looked up and changed by number or by id."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedsearch.errors import UnknownNameError, UsageError, unknown
from embedsearch.pipeline.table_file import IN_MEMORY, offer, to_float32
from embedsearch.sources import ArraySource
from embedsearch.vectors import Matrix, as_matrix, require_finite

_MANY_IDS = 20_000  # among more, the nearest names would take seconds to find


class EmbeddingTable:
    """A float32 matrix N x D of its own, one row for each number 0..N-1, and with ids one for each id.

    location: the file and parameter that the rows came from, "<table>" for what was in memory.
    """

    location = IN_MEMORY

    def __init__(self, rows: ArrayLike, ids: Iterable[str] | None = None) -> None:
        """rows: N x D real numbers, copied. ids: N unique strings. Raises UsageError when either is not so."""
        plain = to_float32(rows) if hasattr(rows, "detach") else rows
        with np.errstate(over="ignore"):
            matrix = as_matrix(plain, what="rows")
        if np.ndim(plain) != 2 or matrix.shape[1] == 0:
            raise UsageError(f"rows must be a matrix N x D, not of shape {np.shape(plain)}")
        self._rows = np.array(matrix)
        self._ids = None if ids is None else _checked_ids(ids, len(matrix))

    @classmethod
    def load(cls, source: Any, name: str | None = None, *, ids: Iterable[str] | None = None) -> Self:
        """The table that an embedding layer's weights are, in a file or in memory.

        source: a checkpoint of torch (.pt, .pth, .bin: a state dict or a whole module, of which no code is run),
        .safetensors, a Keras model (.keras, .h5), .npz, .npy, word vectors as text (.txt, .vec, also gzipped; the
        words become ids); or a torch module, a Keras model or layer, a mapping of names to arrays. name: of the
        parameter, or of the embedding layer; .npy, word vectors and a single embedding layer need none. ids: one string
        for each row, in place of the file's own. float16, bfloat16 and float64 become float32; rows with NaN or
        infinity are kept.

        Raises UsageError when no name is given, the parameter is no N x D floating matrix or `ids` do not fit,
        UnknownNameError for a name that is not there (both list the candidates), SourceError or WeightsError when the
        file cannot be read.
        """
        offered = offer(source)
        chosen = offered.choose(name)
        matrix = offered.matrix(chosen)
        table = cls.__new__(cls)
        # the words' matrix belongs to nobody else, and is the largest that one meets
        table._rows = matrix if offered.words else np.array(matrix, order="C")
        # words may repeat in a file: the first is found, and a build skips the others
        table._ids = offered.words if ids is None else _checked_ids(ids, len(matrix))
        if offered.location != IN_MEMORY:
            table.location = offered.location if offered.nameless else f"{offered.location}::{chosen}"
        return table

    @staticmethod
    def candidates(source: Any) -> list[tuple[str, tuple[int, ...]]]:
        """Name and shape of each table that `source` offers to `load`; embedding layers come first."""
        return offer(source).candidates()

    def lookup(self, ids: Any) -> Matrix:
        """Rows by number or by id: float32 of shape ids.shape + (D,), a copy.

        ids: integers of any shape and integer dtype, as torch.nn.Embedding takes them, or strings of any shape.
        Raises UsageError for a number outside 0..N-1 and other types, UnknownNameError for an id that is not there.
        """
        return np.take(self._rows, self._numbers(ids), axis=0)

    def assign(self, ids: Any, rows: ArrayLike) -> None:
        """Changes the rows of `ids` (n numbers or strings, no two the same) to `rows` (n x D, or one D for one id).

        Raises UsageError, and changes nothing, when an id is unknown or repeated, or `rows` do not fit or are not
        finite.
        """
        numbers = self._numbers(ids)
        if numbers.ndim > 1:
            raise UsageError(f"ids must be one or a list of them, not of shape {numbers.shape}")
        numbers = numbers.reshape(-1)
        order = np.sort(numbers)
        repeated = order[1:][order[1:] == order[:-1]]
        if repeated.size:
            raise UsageError(f"row {repeated[0]} is given twice; give each id once")
        with np.errstate(over="ignore"):  # such a number becomes infinity, and is told
            matrix = as_matrix(to_float32(rows) if hasattr(rows, "detach") else rows, what="rows")
        if matrix.shape != (len(numbers), self.dim):
            raise UsageError(
                f"rows are {matrix.shape[0]} x {matrix.shape[1]}, for {len(numbers)} ids they must be "
                f"{len(numbers)} x {self.dim}"
            )
        require_finite(matrix, what="rows")
        self._rows[numbers] = matrix

    def as_source(self) -> ArraySource:
        """The table as what a build reads; without ids, an item's id is its row number."""
        return ArraySource(self.rows, self._ids, None, self.location)

    @property
    def ids(self) -> list[str] | None:
        """One for each row, as a new list, or None."""
        return None if self._ids is None else list(self._ids)

    @property
    def rows(self) -> Matrix:
        """The matrix, float32 N x D: a view that cannot be written to and follows `assign`."""
        view = self._rows.view()
        view.flags.writeable = False
        return view

    @property
    def dim(self) -> int:
        return int(self._rows.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.dim

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"EmbeddingTable({len(self)} x {self.dim}{', with ids' if self._ids else ''}, {self.location})"

    def _numbers(self, ids: Any) -> NDArray[np.intp]:
        """The row numbers that `ids` mean, in their shape."""
        found = ids.detach().cpu().numpy() if hasattr(ids, "detach") else ids
        if not isinstance(found, np.ndarray):
            try:
                # as objects: numpy would make 1 of True, and "1" of 1 beside a string
                found = np.asarray(found, dtype=object)
            except ValueError as error:
                raise UsageError(f"ids must be numbers or strings in one shape: {error}") from error
        if found.dtype.kind in "iu":
            return self._checked_numbers(found)
        kinds = {type(value) for value in found.flat} if found.dtype.kind in "OU" else {found.dtype.type}
        if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds):  # also when there are none
            return self._checked_numbers(found)
        if all(issubclass(kind, str) for kind in kinds):
            return np.array([self._row_of(str(value)) for value in found.flat], np.intp).reshape(found.shape)
        told = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise UsageError(f"ids must be whole numbers or strings, not {told}")

    def _checked_numbers(self, numbers: NDArray[Any]) -> NDArray[np.intp]:
        if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self)):
            bad = numbers[(numbers < 0) | (numbers >= len(self))].flat[0]
            valid = f"valid: 0..{len(self) - 1}" if len(self) else "the table has no rows"
            raise UsageError(f"row {bad} is not in the table; {valid}")
        return numbers.astype(np.intp)

    def _row_of(self, name: str) -> int:
        if self._ids is None:
            raise UsageError(f"id {name!r} is not known: this table has no ids; give row numbers, or load it with ids=")
        if (row := self._row_by_id.get(name)) is not None:
            return row
        if len(self) > _MANY_IDS:
            raise UnknownNameError(f"id {name!r} is not known; the table has {len(self)} ids, e.g. {self._ids[0]!r}")
        raise unknown("id", name, self._ids)

    @cached_property
    def _row_by_id(self) -> dict[str, int]:
        names = self._ids or []
        return dict(zip(reversed(names), range(len(names) - 1, -1, -1), strict=True))  # of equal ids the first wins


def _checked_ids(ids: Iterable[str], n_rows: int) -> list[str]:
    """`ids` as a list. Raises UsageError when they are not `n_rows` unique strings."""
    if isinstance(ids, str):
        raise UsageError("ids must be a list of strings, not one string")
    names = list(ids)
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise UsageError(f"ids must be strings, not {type(wrong).__name__} {wrong!r}; use str()")
    if len(names) != n_rows:
        raise UsageError(f"{len(names)} ids were given for {n_rows} rows")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UsageError(f"id {name!r} is given twice; ids must be unique")
        seen.add(name)
    return [str(name) for name in names]
