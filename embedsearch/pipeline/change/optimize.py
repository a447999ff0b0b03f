"""Folding what was added and deleted into a fresh index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embedsearch.artifact import (
    Manifest,
    StoreEntry,
    flush,
    record_files,
    verify_files,
    write_manifest,
)
from embedsearch.artifact.manifest import FORMAT_VERSION
from embedsearch.index import IndexRequest
from embedsearch.pipeline.change.opening import Change, changing
from embedsearch.pipeline.commit import asked_for, library_versions, make_index
from embedsearch.pipeline.positions import drift
from embedsearch.pipeline.state import tidy
from embedsearch.store.writer import tracked_files
from embedsearch.types import Progress


@dataclass(frozen=True, slots=True)
class OptimizeReport:
    """n_folded: items that are in the index now, and were searched beside it. n_dropped: places of deleted items that
    are gone from it. n_pieces: of the store before; it is compact now. family: of the index, and why. up_to_date: there
    was nothing to do."""

    root: Path
    n_items: int
    n_folded: int
    n_dropped: int
    n_pieces: int
    family: str
    reason: str
    up_to_date: bool


def run_optimize(root: Path, progress: Progress, asked: Mapping[str, Any] | None = None) -> OptimizeReport:
    """Compacts the store and builds a new index file over it, from the vectors that are stored; one commit.

    The family is chosen for the size that the index has now, unless one was asked for. asked: fields of an IndexRequest
    that take the place of what was asked for before. What was kept for readers of the index file before the last is
    removed. Raises PromiseError when the index cannot do it; it then stays as it was.
    """
    with changing(root) as change:
        manifest, layout = change.manifest, change.layout
        verify_files(root, manifest.files)  # everything is copied, so damage would be as well
        n_folded, n_dropped = drift(root, manifest, change.store)
        request = replace(asked_for(manifest.index), **dict(asked or {}))
        up_to_date = manifest.is_folded and request == asked_for(manifest.index)
        if not up_to_date:
            manifest = _folded(change, request, progress)
        tidy(layout, manifest)
        return OptimizeReport(
            root,
            manifest.n_items,
            n_folded,
            n_dropped,
            change.store.n_pieces,
            manifest.index.family,
            manifest.index.reason,
            up_to_date,
        )


def _folded(change: Change, request: IndexRequest, progress: Progress) -> Manifest:
    before, layout = change.manifest, change.layout
    generation = before.generation + 1
    writer = change.writer()
    progress.stage("compacting the store", 1)
    writer.compact()
    progress.advance(1)
    store = writer.open()
    entry, written = make_index(layout, generation, store, before.recipe.metric, request, progress)
    new = [*tracked_files(layout.items, store.version), *written]
    flush(layout.root, new)
    kept = {} if before.postprocess is None else {before.postprocess: before.files[before.postprocess]}
    manifest = replace(
        before,
        generation=generation,
        store=StoreEntry(store.version),
        index=entry,
        files={**kept, **record_files(layout.root, new)},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        previous=before.held,
        libraries=library_versions(),
        format_version=FORMAT_VERSION,
    )
    write_manifest(layout, manifest)
    return manifest
