"""Finding out that a file is not what was committed, before anything is read from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from embedsearch.errors import DamagedIndexError
from embedsearch.index.base import MAPPED_SUFFIX

# files of which an opening reads no more than it needs are read in full up to this size in all; larger ones by
# `info --verify`
VERIFY_BYTES = 2**30
_CHUNK = 2**18
FIX = "restore it from a copy, or build it again with --restart"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size in bytes and XXH3 (128 bits, hex) of one committed file."""

    size: int
    xxh3: str

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FileRecord:
        return cls(int(data["size"]), str(data["xxh3"]))


def record_files(root: Path, paths: Iterable[Path]) -> dict[str, FileRecord]:
    """Records of `paths`, by their names relative to `root`."""
    return {path.relative_to(root).as_posix(): FileRecord(path.stat().st_size, _xxh3(path)) for path in sorted(paths)}


def verify_files(root: Path, records: dict[str, FileRecord], *, everything: bool = False) -> None:
    """Raises DamagedIndexError when a file is missing, or has another size or content than recorded.

    The contents of the store and of mapped files are compared up to VERIFY_BYTES in all, unless `everything`.
    """
    verify_sizes(root, records)
    large = {name for name in records if "/" in name or name.endswith(MAPPED_SUFFIX)}
    read_large = everything or sum(records[name].size for name in large) <= VERIFY_BYTES
    for name, record in records.items():
        if (name not in large or read_large) and _xxh3(root / name) != record.xxh3:
            raise DamagedIndexError(f"{root} is damaged: {name} is not what was written; {FIX}")


def verify_sizes(root: Path, records: dict[str, FileRecord]) -> None:
    """Raises DamagedIndexError when a file is missing, or has another size than recorded; reads nothing."""
    for name, record in records.items():
        path = root / name
        try:
            size = path.stat().st_size
        except OSError:
            raise DamagedIndexError(f"{root} is damaged: {name} is missing; {FIX}") from None
        if size != record.size:
            raise DamagedIndexError(f"{root} is damaged: {name} has {size} bytes, not {record.size}; {FIX}")


def _xxh3(path: Path) -> str:
    digest = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_CHUNK))  # reused, and small enough to stay in the processor's cache
    try:
        with path.open("rb", buffering=0) as stream:
            while n := stream.readinto(buffer):
                digest.update(buffer[:n])
    except OSError as error:
        raise DamagedIndexError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()
