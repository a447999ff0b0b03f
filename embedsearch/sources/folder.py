"""Folders, walked recursively, and globs: one item a file, its relative path is its id."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa

from embedsearch.errors import SourceError
from embedsearch.sources.base import ItemSource
from embedsearch.sources.files import filesystem, local_path, printable, stat_fingerprint
from embedsearch.types import Item, Modality, Skip

IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".apng",
        ".gif",
        ".webp",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".tga",
        ".ico",
        ".jp2",
        ".j2k",
        ".jpx",
        ".avif",
        ".avifs",
        ".heic",
        ".heif",
        ".pcx",
        ".sgi",
        ".rgb",
        ".dds",
        ".qoi",
    ]
)
TEXT_SUFFIXES = frozenset([".txt", ".text", ".md", ".rst"])

UNLISTED = "folder cannot be listed"


class FolderSource(ItemSource):
    """Every file below `location` (or matching it, when it is a glob) whose suffix fits the modality.

    Names that start with a dot are passed over, as shells do. Any other file that does not fit is
    reported as a Skip, so nothing is lost silently. Links to folders are followed, but not in circles;
    folders that hold an index are passed over.
    """

    def __init__(
        self, location: str, modality: Modality, *, kind: Literal["folder", "glob", "file"] = "folder"
    ) -> None:
        self.location = location
        self.modality = modality
        self._kind = kind
        self._fs, self._path = filesystem(location)
        self._is_local = local_path(self._fs, self._path) is not None
        self._suffixes = IMAGE_SUFFIXES if modality is Modality.IMAGE else TEXT_SUFFIXES
        self._count: int | None = None

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([])

    def count(self) -> int | None:
        if self._count is None:
            self._count = sum(1 for _ in self)
        return self._count

    def __iter__(self) -> Iterator[Item | Skip]:
        if self._kind == "glob":
            return self._matches()
        if self._kind == "file":
            return iter([self._file(self._path, self._path.rpartition("/")[2], {})])
        return self._walk(self._path.rstrip("/") or "/")

    def _uri(self, path: str) -> str:
        """What opens `path` again, apart from this file system object."""
        if self._is_local:
            return path
        outer = self.location.partition("::")[2]  # zip://inside::outer
        return str(self._fs.unstrip_protocol(path)) + (f"::{outer}" if outer else "")

    def _matches(self) -> Iterator[Item | Skip]:
        root = _fixed_prefix(self._path)
        for path, info in sorted(self._fs.glob(self._path, detail=True).items()):
            name = path.removeprefix(root).lstrip("/")
            if info["type"] != "directory" and not any(part.startswith(".") for part in name.split("/")):
                yield self._file(path, name, info)

    def _walk(self, folder: str, prefix: str = "", above: tuple[str, ...] = ()) -> Iterator[Item | Skip]:
        """Files of `folder` in the order of their names, then its folders, each the same way."""
        try:
            entries = self._list(folder)
        except OSError as error:
            if not prefix:
                raise SourceError(f"{self.location} cannot be listed: {error.strerror or error}") from error
            yield Skip(printable(prefix), folder, f"{UNLISTED}: {error.strerror or error}")
            return
        names = {name for name, _, _ in entries}
        if "items.lance" in names or {"build.json", "skipped.jsonl.partial"} <= names:
            return  # an index, perhaps the one that is being built
        above = (*above, self._real(folder))
        for name, is_folder, info in entries:
            if not is_folder and not name.startswith("."):
                yield self._file(f"{folder.rstrip('/')}/{name}", prefix + name, info)
        for name, is_folder, _ in entries:
            if not is_folder or name.startswith("."):
                continue
            path = f"{folder.rstrip('/')}/{name}"
            if self._real(path) in above:
                yield Skip(printable(prefix + name), path, "link to a folder that it lies in")
            else:
                yield from self._walk(path, f"{prefix}{name}/", above)

    def _real(self, folder: str) -> str:
        """`folder` itself, whatever links lead to it."""
        return os.path.realpath(folder) if self._is_local else folder

    def _list(self, folder: str) -> list[tuple[str, bool, dict[str, Any]]]:
        """Name, whether it is a folder, and what is known of each entry, in the order of the names."""
        if self._is_local:
            with os.scandir(folder) as entries:
                return sorted(((entry.name, entry.is_dir(), {}) for entry in entries), key=lambda entry: entry[0])
        infos = self._fs.ls(folder, detail=True)
        named = ((info["name"].rstrip("/").rpartition("/")[2], info["type"] == "directory", info) for info in infos)
        return sorted(named, key=lambda entry: entry[0])

    def _file(self, path: str, name: str, info: dict[str, Any]) -> Item | Skip:
        item_id, uri = printable(name), self._uri(path)
        suffix = PurePosixPath(name).suffix.lower()
        if suffix and suffix not in self._suffixes:
            hint = " (they are with --modality text)" if suffix in TEXT_SUFFIXES else ""
            return Skip(item_id, uri, f"not {_kind(self.modality)}: files ending in {suffix} are not read{hint}")
        if self._is_local:
            try:
                stat = Path(path).stat()
            except OSError as error:
                return Skip(item_id, uri, f"cannot be read: {error.strerror}")
            info = {"size": stat.st_size, "mtime": stat.st_mtime_ns}
        return Item(id=item_id, uri=uri, fingerprint=stat_fingerprint(info))


def _kind(modality: Modality) -> str:
    return "a picture" if modality is Modality.IMAGE else "a text"


def _fixed_prefix(pattern: str) -> str:
    """The folder part of a glob before its first wildcard."""
    fixed = []
    for part in pattern.split("/")[:-1]:
        if any(sign in part for sign in "*?["):
            break
        fixed.append(part)
    return "/".join(fixed)
