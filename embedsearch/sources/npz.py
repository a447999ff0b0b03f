"""The arrays of a .npz file, found by their headers and read one at a time; nothing is ever unpickled."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from embedsearch.errors import SourceError
from embedsearch.sources.files import open_binary


@dataclass(frozen=True, slots=True)
class NpzArray:
    """One array of a .npz file, not yet read."""

    location: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self) -> NDArray[Any]:
        """Its values. Raises SourceError when they cannot be read."""
        with _opened(self.location) as archive, archive.open(f"{self.name}.npy") as stream:
            array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
            return array


def read_npz(location: str) -> dict[str, NpzArray]:
    """Every array by its name. Raises SourceError when `location` is no .npz file."""
    found = {}
    with _opened(location) as archive:
        for member in archive.namelist():
            if not member.endswith(".npy"):
                continue
            with archive.open(member) as stream:
                version = npy.read_magic(stream)
                read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                shape, _, dtype = read_header(stream)
            name = member.removesuffix(".npy")
            found[name] = NpzArray(location, name, shape, dtype)
    return found


@contextmanager
def _opened(location: str) -> Iterator[ZipFile]:
    try:
        with open_binary(location) as stream, ZipFile(stream) as archive:
            yield archive
    except (BadZipFile, zlib.error, ValueError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise SourceError(f"{location} is not a .npz file of numbers: {error}") from error
