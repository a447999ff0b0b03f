"""Folders, walked recursively, and globs: one item a file, its relative path is its id."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

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


class FolderSource(ItemSource):
    """Every file below `location` (or matching it, when it is a glob) whose suffix fits the modality.

    Names that start with a dot are passed over, as shells do. Any other file that does not fit is
    reported as a Skip, so nothing is lost silently. Links to folders are followed, but not in circles.
    """

    def __init__(self, location: str, modality: Modality, pattern: bool = False) -> None:
        self.location = location
        self.modality = modality
        self._pattern = pattern
        self._fs, self._path = filesystem(location)
        self._scheme = "" if local_path(self._fs, self._path) else f"{location.partition('://')[0]}://"
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
        return self._matches() if self._pattern else self._walk(self._path.rstrip("/") or "/")

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
            yield Skip(printable(prefix), folder, f"folder cannot be listed: {error.strerror or error}")
            return
        above = (*above, self._real(folder))
        folders = []
        for name, info in entries:
            if name.startswith("."):
                continue
            if info["type"] == "directory":
                folders.append((name, info))
            else:
                yield self._file(info["name"], prefix + name, info)
        for name, info in folders:
            if self._real(info["name"]) in above:
                yield Skip(printable(prefix + name), info["name"], "link to a folder that it lies in")
            else:
                yield from self._walk(info["name"], f"{prefix}{name}/", above)

    def _real(self, folder: str) -> str:
        """`folder` itself, whatever links lead to it."""
        return folder if self._scheme else os.path.realpath(folder)

    def _list(self, folder: str) -> list[tuple[str, dict[str, Any]]]:
        if self._scheme:
            infos = self._fs.ls(folder, detail=True)
            return sorted((PurePosixPath(info["name"].rstrip("/")).name, info) for info in infos)
        listed = []
        with os.scandir(folder) as entries:
            for entry in entries:
                kind = "directory" if entry.is_dir() else "file"
                listed.append((entry.name, {"name": entry.path, "type": kind}))
        return sorted(listed, key=lambda pair: pair[0])

    def _file(self, path: str, name: str, info: dict[str, Any]) -> Item | Skip:
        item_id, uri = printable(name), self._scheme + path
        suffix = PurePosixPath(name).suffix.lower()
        if suffix and suffix not in self._suffixes:
            return Skip(item_id, uri, f"not {_kind(self.modality)}: files ending in {suffix} are not read")
        if "size" not in info:
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
