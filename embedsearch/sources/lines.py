"""A file of texts, one a line; the id is the line number, counted from 1, unless ids are given beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

import pyarrow as pa

from embedsearch.errors import SourceError, UsageError, counted
from embedsearch.sources.base import ItemSource, text_hash
from embedsearch.sources.files import open_binary
from embedsearch.types import Item, Modality, Skip

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")


class LinesSource(ItemSource):
    """Lines of a UTF-8 file. Lines that are not UTF-8 are skipped with the place of the first bad byte."""

    modality = Modality.TEXT

    def __init__(self, location: str, ids: Sequence[str] | None = None) -> None:
        """ids: one a line. Raises UsageError when there are more or fewer than lines."""
        self.location = location
        self._ids = ids
        with open_binary(location):
            pass  # a missing file is told now, not in the middle of a build
        if ids is not None and (n := self.count()) != len(ids):
            raise UsageError(f"{counted(len(ids), 'id')} for {counted(n, 'line')} of {location}; give one a line")

    @property
    def is_numbered(self) -> bool:
        return self._ids is None

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([("text", pa.string())])

    def count(self) -> int:
        with open_binary(self.location) as lines:
            return sum(1 for _ in lines)

    def __iter__(self) -> Iterator[Item | Skip]:
        with open_binary(self.location) as lines:
            for number, raw in enumerate(lines, start=1):
                line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
                # a file may grow while it is read
                item_id = str(number) if self._ids is None or number > len(self._ids) else self._ids[number - 1]
                try:
                    text = line.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    yield Skip(item_id, self.location, f"not UTF-8: byte {error.start + 1} of the line")
                    continue
                yield Item(item_id, content=text, fingerprint=text_hash(text), metadata={"text": text})


def looks_like_word_vectors(location: str) -> bool:
    """True when the first lines are each a word and the same number of numbers, ten at least, as GloVe writes them."""
    widths = set()
    with open_binary(location) as lines:
        for raw in islice(lines, 3):
            fields = raw.decode("utf-8", "replace").split()
            widths.add(len(fields) if all(_NUMBER.fullmatch(field) for field in fields[1:]) else 0)
    return len(widths) == 1 and min(widths) > 10


def read_lines(location: str) -> list[str]:
    """The lines of a UTF-8 file, as ids. Raises SourceError where a line is not UTF-8 or empty."""
    found = []
    with open_binary(location) as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                line = (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise SourceError(f"{location} is not UTF-8 in line {number}, byte {error.start + 1}") from error
            if not line:
                raise SourceError(f"{location} has no id in line {number}")
            found.append(line)
    return found
