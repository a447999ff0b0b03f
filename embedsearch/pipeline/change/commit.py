"""Making what a change wrote visible, at a cost that does not grow with the index."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from embedsearch.artifact import Manifest, StoreEntry, flush, record_files, write_manifest
from embedsearch.artifact.manifest import FORMAT_VERSION
from embedsearch.pipeline.change.opening import Change
from embedsearch.pipeline.chunks import long_texts_condition
from embedsearch.pipeline.positions import write_positions
from embedsearch.store import StoreWriter
from embedsearch.store.writer import tracked_files


def commit_change(
    change: Change, writer: StoreWriter, *, n_skipped: int | None = None, renamed: dict[str, str] | None = None
) -> Manifest:
    """Commits the newest version of the store beside the index as it is.

    n_skipped: lines of skipped.jsonl, where they changed. renamed: metadata columns that the store keeps under other
    names. Files that were committed before never change, so only new ones are read, recorded and flushed.
    """
    before, layout = change.manifest, change.layout
    store = writer.open()
    entry, added = before.index, []
    if entry.rows is None:  # a format before 3, whose index was built over the store as it is
        rows = layout.rows(before.generation)
        write_positions(change.store, rows)
        entry = replace(entry, rows=rows.name, store_version=before.store.version)
        added.append(rows)
    kept = {name: record for name, record in before.files.items() if "/" not in name}
    for path in tracked_files(layout.items, store.version):
        name = path.relative_to(layout.root).as_posix()
        if name in before.files:
            kept[name] = before.files[name]
        else:
            added.append(path)
    flush(layout.root, added)
    manifest = replace(
        before,
        generation=before.generation + 1,
        n_items=len(store),
        n_skipped=before.n_skipped if n_skipped is None else n_skipped,
        n_truncated=store.count_where(long_texts_condition(before.recipe)),
        store=StoreEntry(store.version),
        index=entry,
        files={**kept, **record_files(layout.root, added)},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        renamed={**before.renamed, **(renamed or {})},
        format_version=FORMAT_VERSION,
    )
    write_manifest(layout, manifest)
    return manifest
