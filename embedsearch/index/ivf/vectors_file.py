"""Vectors of 16 bits a value, in a file that stays on disk."""

from __future__ import annotations

import struct
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import DamagedIndexError
from embedsearch.index.ivf.scaling import Scaling
from embedsearch.vectors import Matrix

Half = NDArray[np.float16]
Places = NDArray[np.int64]

_MAGIC = b"ESF16\x00\x00\x01"
_HEAD = struct.Struct("<8sqqd")  # magic, number of vectors, dimensions, scale
_PAGE = 4096
_ORDERING_BYTES = 2**26


class Spool:
    """Where vectors wait for their order, as they are added: a temporary file that has no name.

    folder: where it takes its room; None for TMPDIR.
    """

    def __init__(self, dim: int, folder: Path | None = None) -> None:
        self._dim = dim
        self._n = 0
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as this
        weakref.finalize(self, self._file.close)

    def append(self, x: Matrix) -> None:
        """x: float32 n x D, within the range of float16."""
        self._file.write(x.astype(np.float16).data)
        self._n += len(x)

    def matrix(self) -> Half:
        """All of them so far, mapped, N x D."""
        self._file.flush()
        return _mapped(self._file, 0, self._n, self._dim)


def in_order(vectors: Half, order: Places) -> Iterator[Half]:
    """vectors[order] in blocks, for each of which `vectors` is read forward: it may be larger than the memory."""
    n_rows = max(_ORDERING_BYTES // (2 * vectors.shape[1]), 1)
    for start in range(0, len(order), n_rows):
        wanted = order[start : start + n_rows]
        forward = np.argsort(wanted)
        block = np.empty((len(wanted), vectors.shape[1]), np.float16)
        block[forward] = vectors[wanted[forward]]
        yield block


def write(path: Path, scaling: Scaling, rows: Places, blocks: Iterable[Half]) -> None:
    """Writes vectors with what is needed to read them; rows: of the index, one for each vector."""
    partial = path.with_name(path.name + ".tmp")  # `path` itself may be what `blocks` come from
    with partial.open("wb") as stream:
        stream.write(_HEAD.pack(_MAGIC, len(rows), len(scaling.mean), scaling.scale))
        scaling.mean.astype("<f4").tofile(stream)
        rows.astype("<i8").tofile(stream)
        stream.write(b"\0" * (-stream.tell() % _PAGE))
        for block in blocks:
            block.astype("<f2", copy=False).tofile(stream)
    partial.replace(path)


def read(path: Path) -> tuple[Scaling, Places, Half]:
    """Scaling, rows, and the vectors of those, mapped. Raises DamagedIndexError."""
    try:
        with path.open("rb") as stream:
            magic, n, dim, scale = _HEAD.unpack(stream.read(_HEAD.size))
            if magic != _MAGIC or min(n, dim) < 0:
                raise ValueError("it is not a file of vectors")
            mean = np.fromfile(stream, "<f4", dim)
            rows = np.fromfile(stream, "<i8", n)
            start = stream.tell() + -stream.tell() % _PAGE
            size = start + 2 * n * dim
            if path.stat().st_size != size:
                raise ValueError(f"it has {path.stat().st_size} bytes, not {size}")
            vectors = _mapped(stream, start, n, dim)
    except (OSError, ValueError, struct.error, MemoryError) as error:
        raise DamagedIndexError(f"{path} cannot be read: {error}") from error
    return Scaling(mean, scale), rows, vectors


def _mapped(stream: IO[bytes], start: int, n: int, dim: int) -> Half:
    if n == 0:
        return np.empty((0, dim), np.float16)
    return np.memmap(stream, np.dtype("<f2"), "r", start, (n, dim))
