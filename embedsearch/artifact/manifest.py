"""The manifest: all that is needed to open, ask, and judge an index."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from embedsearch.artifact.commit import write_atomically
from embedsearch.artifact.layout import Layout
from embedsearch.artifact.pending import told_unfinished
from embedsearch.artifact.verify import FIX, FileRecord
from embedsearch.config import Recipe
from embedsearch.errors import ArtifactError, DamagedIndexError, EmbedSearchError, UnfinishedBuildError

FORMAT_VERSION = 3


@dataclass(frozen=True, slots=True)
class StoreEntry:
    """The version of items.lance that belongs to this generation; versions between two committed ones are debris."""

    version: int


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """The FAISS index of this generation. recall_at_10: measured against exact search, 1.0 when exact,
    None when there was nothing to measure on. rows: the file with the stable ids of the rows it was built over;
    store_version: of items.lance then (format 3; before, an index was always built over the store as it is). request:
    what was asked of it (see IndexRequest). tuned: the measurements its search parameters were chosen by, taken on
    `threads` threads with the vector instructions `simd`."""

    file: str
    family: str
    reason: str
    build: dict[str, Any]
    search: dict[str, int]
    bytes_per_vector: float
    recall_at_10: float | None
    rows: str | None = None
    store_version: int = 0
    request: dict[str, Any] = field(default_factory=dict)
    tuned: dict[str, Any] | None = None
    threads: int | None = None
    simd: str | None = None
    disk_bytes_per_vector: float = 0.0  # in files that a search reads where it needs them


@dataclass(frozen=True, slots=True)
class Previous:
    """What readers of the index file before may still hold: versions of items.lance from `version` to `last`, and the
    names of its other files. last: 0 for `version` alone."""

    version: int
    files: list[str]
    last: int = 0

    @property
    def versions(self) -> range:
        return range(self.version, max(self.version, self.last) + 1)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One committed generation of an index.

    n_truncated: texts that were longer than the network reads at once. previous: what of the
    generation before is kept, for readers that hold it. renamed: metadata columns whose own names the
    store needs for itself.
    """

    generation: int
    recipe: Recipe
    source: str
    dim: int
    n_items: int
    n_skipped: int
    n_truncated: int
    store: StoreEntry
    index: IndexEntry
    postprocess: str | None
    files: dict[str, FileRecord]
    created: str
    previous: Previous | None = None
    weights_origin: str | None = None
    renamed: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def is_folded(self) -> bool:
        """True when the index was built over the store as it is: nothing was added or deleted since."""
        return self.index.store_version in (0, self.store.version)

    @property
    def held(self) -> Previous:
        """What readers of any generation since this index was built may hold."""
        named = (self.index.file, self.index.rows, self.postprocess)
        return Previous(
            self.index.store_version or self.store.version, [name for name in named if name], self.store.version
        )

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "recipe": self.recipe.to_dict()}


def write_manifest(layout: Layout, manifest: Manifest) -> None:
    """The commit: after this returns, readers see the new generation."""
    body = manifest.to_dict()
    body["checksum"] = _checksum(body)
    write_atomically(layout.manifest, json.dumps(body, indent=2, ensure_ascii=False).encode() + b"\n")


def read_manifest(root: Path) -> Manifest:
    """The committed generation in `root`.

    Raises ArtifactError when the folder is no index, UnfinishedBuildError when its first build has
    not finished, DamagedIndexError when the manifest is not what was written.
    """
    layout = Layout(root)
    if not root.exists():
        raise ArtifactError(f"there is no index at {root}")
    if not layout.manifest.exists():
        if layout.pending.exists():
            raise UnfinishedBuildError(told_unfinished(root))
        raise ArtifactError(f"{root} is not an index: it has no manifest.json")
    try:
        body = json.loads(layout.manifest.read_text(encoding="utf-8"))
        checksum = body.pop("checksum")
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise DamagedIndexError(f"{layout.manifest} is damaged: {error}; {FIX}") from error
    found = body.get("format_version")
    if isinstance(found, int) and found > FORMAT_VERSION:
        raise ArtifactError(
            f"{root} has format version {found}, this embedsearch reads up to {FORMAT_VERSION}; update it"
        )
    if checksum != _checksum(body):
        raise DamagedIndexError(f"{layout.manifest} is damaged: it is not what was written; {FIX}")
    try:
        return _parse(body)
    except (TypeError, KeyError, ValueError, EmbedSearchError) as error:
        raise DamagedIndexError(f"{layout.manifest} is damaged: {error}; {FIX}") from error


def _parse(body: dict[str, Any]) -> Manifest:
    parsed = dict(body)
    parsed["recipe"] = Recipe.from_stored(body["recipe"])
    parsed["store"] = StoreEntry(**body["store"])
    parsed["index"] = IndexEntry(**body["index"])
    parsed["previous"] = None if body["previous"] is None else Previous(**body["previous"])
    parsed["files"] = {name: FileRecord.from_dict(record) for name, record in body["files"].items()}
    return Manifest(**parsed)


def _checksum(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return xxhash.xxh3_128_hexdigest(canonical.encode())
