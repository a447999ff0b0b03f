"""Reading through fsspec: one way for local paths and URLs, with errors a user understands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import fsspec

from embedsearch.errors import ItemError, MissingExtraError, SourceError, UsageError


def is_url(location: str) -> bool:
    return "://" in location


def filesystem(location: str) -> tuple[Any, str]:
    """The fsspec file system of `location` and the path inside it."""
    if not is_url(location):
        return fsspec.filesystem("file"), str(Path(location).expanduser().absolute())
    try:
        fs, path = fsspec.core.url_to_fs(location)
    except ImportError as error:
        raise MissingExtraError(f"{location} needs another package: {error}") from error
    except ValueError as error:
        raise UsageError(f"{location} cannot be opened: {error}") from error
    return fs, path


def local_path(fs: Any, path: str) -> str | None:
    """`path` when it lies on this machine's disk, else None."""
    return path if "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)) else None


def open_binary(location: str) -> IO[bytes]:
    """`location` opened for reading. Raises SourceError when that is not possible."""
    try:
        fs, path = filesystem(location)
        stream: IO[bytes] = fs.open(path, "rb")
    except FileNotFoundError:
        raise SourceError(f"{location} does not exist") from None
    except OSError as error:
        raise SourceError(f"{location} cannot be read: {error}") from error
    return stream


def read_bytes(uri: str) -> bytes:
    """The content of one item's file. Raises ItemError with the reason when it cannot be read."""
    try:
        if not is_url(uri):
            return Path(uri).read_bytes()
        fs, path = filesystem(uri)
        content: bytes = fs.cat_file(path)
    except FileNotFoundError:
        raise ItemError("the file does not exist") from None
    except IsADirectoryError:
        raise ItemError("it is a folder") from None
    except (OSError, MissingExtraError, UsageError) as error:
        raise ItemError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return content


def stat_fingerprint(info: dict[str, Any]) -> str:
    """Changes when the file behind an fsspec `info` may have changed: size and time, or the ETag."""
    changed = info.get("mtime") or info.get("ETag") or info.get("LastModified") or info.get("last_modified")
    changed = changed or info.get("created") or ""
    return f"{info.get('size', '')}-{changed}"


def local_stamp(uri: str) -> str:
    """Size and time of a local file, which change with its content; nothing for URLs and missing files."""
    if is_url(uri):
        return ""
    try:
        stat = Path(uri).stat()
    except OSError:
        return ""
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def printable(path: str) -> str:
    """`path` as valid Unicode: stray bytes of file names that are not UTF-8 are written as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
