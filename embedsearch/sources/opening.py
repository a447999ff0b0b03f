"""From what a user names to the source that reads it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from embedsearch.errors import SourceError, UsageError
from embedsearch.sources.arrays import ArraySource
from embedsearch.sources.base import Columns, ItemSource
from embedsearch.sources.files import filesystem, is_url
from embedsearch.sources.folder import IMAGE_SUFFIXES, TEXT_SUFFIXES, FolderSource
from embedsearch.sources.lines import LinesSource, looks_like_word_vectors
from embedsearch.sources.tensors import TensorSource
from embedsearch.types import Modality

TABLES = frozenset((".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq"))
_READABLE = "a folder, a glob, FILE.txt, FILE.csv, FILE.jsonl, FILE.parquet or FILE.npy"


def open_source(
    location: str, *, modality: Modality | None = None, columns: Columns | None = None
) -> ItemSource | ArraySource:
    """The source that reads `location`: a path, a glob, or a URL that fsspec opens.

    modality: what the items are, where the location does not tell (default: pictures for folders and
    globs, embeddings for .npy; "tensor" reads its rows as input of a network). columns: names of the id, text and
    image columns of a table.
    Raises SourceError when nothing is there, UsageError when no source reads such a file.
    """
    location = location if is_url(location) else str(Path(location).expanduser().absolute())
    fs, path = filesystem(location)
    suffix = PurePosixPath(path).suffix.lower()
    named = columns is not None and any((columns.id, columns.text, columns.image))
    if named and suffix not in TABLES:
        raise UsageError(f"{location} is not a table, so it has no columns to name")
    if _exists(fs, path, location):
        if fs.isdir(path):
            return FolderSource(location, modality or Modality.IMAGE)
        if suffix == ".npy":
            return TensorSource.from_file(location) if modality is Modality.TENSOR else ArraySource.from_file(location)
        if suffix in TABLES:
            from embedsearch.sources.table import open_table

            return open_table(location, suffix, columns or Columns(), modality)
        if suffix in TEXT_SUFFIXES and modality is not Modality.IMAGE:
            if modality is None and looks_like_word_vectors(location):
                raise UsageError(
                    f"{location} looks like word vectors; write {location}::vectors to index the words by their "
                    "vectors, or say --modality text to index its lines as texts"
                )
            return LinesSource(location)
        if suffix in IMAGE_SUFFIXES and modality is not Modality.TEXT:
            return FolderSource(location, Modality.IMAGE, kind="file")
        raise UsageError(f"{location} is not a kind of file that is read; give {_READABLE}")
    if any(sign in location for sign in "*?["):
        matches = FolderSource(location, modality or _glob_modality(suffix), kind="glob")
        if not any(True for _ in matches):
            raise SourceError(f"no file matches {location}")
        return matches
    raise SourceError(f"{location} does not exist; give {_READABLE}")


def _exists(fs: object, path: str, location: str) -> bool:
    try:
        return bool(fs.exists(path))  # type: ignore[attr-defined]
    except Exception as error:  # every file system has errors of its own
        raise SourceError(f"{location} cannot be reached: {error}") from error


def _glob_modality(suffix: str) -> Modality:
    return Modality.TEXT if suffix in TEXT_SUFFIXES else Modality.IMAGE
