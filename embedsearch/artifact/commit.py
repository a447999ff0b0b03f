"""Writing so that a crash at any instant leaves the old file or the new one, never half of one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Writes beside `path`, flushes to disk, renames, and flushes the folder.

    Raises OSError that names `path`, which a full disk does not; what was written of it is removed.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        fsync_path(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def fsync_path(path: Path) -> None:
    """Flushes a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush(root: Path, files: Iterable[Path]) -> None:
    """Flushes files below `root` to disk, and every folder between them and it, which may be new."""
    folders: set[Path] = set()
    for path in files:
        fsync_path(path)
        folders.update(folder for folder in path.parents if folder == root or root in folder.parents)
    for folder in folders:
        fsync_path(folder)
