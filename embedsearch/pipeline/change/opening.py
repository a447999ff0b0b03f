"""The committed generation in the hands of the one writer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from embedsearch.artifact import Layout, Manifest, read_manifest, read_pending, verify_sizes, write_lock
from embedsearch.errors import UnfinishedBuildError
from embedsearch.pipeline.state import is_without_rows, restore
from embedsearch.store import ItemStore, StoreWriter


@dataclass(frozen=True, slots=True)
class Change:
    """manifest, store: as they are committed; nothing that the change writes shows in them."""

    layout: Layout
    manifest: Manifest
    store: ItemStore

    def writer(self) -> StoreWriter:
        """For the first write, and those that follow it: what a killed change left behind is gone."""
        restore(self.layout, self.manifest)
        return StoreWriter(self.layout.items, pa.schema([]), fresh=False)


@contextmanager
def changing(root: Path) -> Iterator[Change]:
    """Holds the writer's lock of a finished index.

    Raises ArtifactError when there is none at `root`, UnfinishedBuildError when a build of it has not finished,
    LockedError when another process writes it, DamagedIndexError when files are missing or have other sizes (their
    contents are compared by those who read them).
    """
    read_manifest(root)  # no lock is left in a folder that holds no index
    layout = Layout(root)
    with write_lock(root):
        manifest = read_manifest(root)
        _require_no_build(layout, manifest)
        verify_sizes(root, manifest.files)
        yield Change(layout, manifest, ItemStore.open(layout.items, manifest.store.version))


def _require_no_build(layout: Layout, manifest: Manifest) -> None:
    pending = read_pending(layout.root)
    if pending is None:
        return
    if pending.generation > manifest.generation and not is_without_rows(layout, pending):
        raise UnfinishedBuildError(
            f"{layout.root} holds an unfinished build of {pending.source}; run its build command again to finish it "
            f"first, or give it up by removing {layout.pending}: the index then stays as it answers now"
        )
    layout.pending.unlink()  # it has committed, or never wrote a row
