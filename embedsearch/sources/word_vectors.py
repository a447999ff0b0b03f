"""Word vectors as text: word2vec's format with a header "N D", and GloVe's without; either may be gzipped."""

from __future__ import annotations

import gzip
import zlib
from array import array
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import SourceError
from embedsearch.sources.files import open_binary


def read_word_vectors(location: str) -> tuple[list[str], NDArray[np.float32]]:
    """Words and their vectors (float32 N x D, row i for word i), in the order of the file.

    A line is read from its right end, since words may hold spaces; bytes that are not UTF-8 are written as \\xNN. A
    first line of two whole numbers is the header. Memory is that of the matrix and the words.
    Raises SourceError when a line does not fit (named by its number, from 1), or the header counts otherwise.
    """
    words: list[str] = []
    values = array("f")  # grows in place, and becomes the matrix without a copy
    promised: int | None = None
    dim = 0
    for number, line in _lines(location):
        parts = line.split()
        if number == 1 and len(parts) == 2 and all(part.isdigit() for part in parts):
            promised, dim = int(parts[0]), int(parts[1])
            if dim == 0:
                raise SourceError(f"{location}: the header promises vectors of 0 numbers")
            continue
        if not parts:  # an empty line at the end
            continue
        dim = dim or len(parts) - 1
        if len(parts) > dim + 1:
            parts = line.rsplit(None, dim)
        if dim == 0 or len(parts) != dim + 1:
            told = "a word without numbers" if len(parts) == 1 else f"a word and {len(parts) - 1} numbers"
            raise SourceError(f"{location}, line {number}: {told}, where a word and {dim or 'more'} numbers belong")
        try:
            values.extend(map(float, parts[1:]))
        except ValueError as error:
            raise SourceError(f"{location}, line {number}: {error}, where {dim} numbers belong after a word") from None
        words.append(parts[0].decode("utf-8", "backslashreplace"))
    if promised is not None and promised != len(words):
        raise SourceError(f"{location}: the header promises {promised} vectors, the file holds {len(words)}")
    if not words:
        raise SourceError(f"{location} holds no word vectors")
    return words, np.frombuffer(values, np.float32).reshape(len(words), dim)


def _lines(location: str) -> Iterator[tuple[int, bytes]]:
    with open_binary(location) as stream:
        # known by its first bytes, whatever the name says
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        reader: Iterable[bytes] = gzip.GzipFile(fileobj=stream) if packed else stream
        try:
            yield from enumerate(reader, start=1)
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"{location} cannot be read: {error}") from error
