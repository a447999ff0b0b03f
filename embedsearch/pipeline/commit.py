"""What follows from the rows: projection, index, manifest; the last write makes the generation visible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from embedsearch.artifact import (
    IndexEntry,
    Layout,
    Manifest,
    StoreEntry,
    flush,
    record_files,
    write_manifest,
)
from embedsearch.errors import EmbedSearchError
from embedsearch.index import Choice, IndexRequest, VectorIndex, choose_index
from embedsearch.index.choose import ASKED_FOR
from embedsearch.index.threads import n_threads, simd_level
from embedsearch.pipeline.chunks import long_texts_condition, store_schema
from embedsearch.pipeline.encode import Encoder
from embedsearch.pipeline.fit import fit_on_store
from embedsearch.pipeline.indexing import Built, build_index
from embedsearch.pipeline.positions import write_positions
from embedsearch.pipeline.skips import SkipLog
from embedsearch.pipeline.state import BuildState, tidy
from embedsearch.postprocess import Postprocess
from embedsearch.sources import ArraySource, ItemSource
from embedsearch.store import ItemStore, StoreWriter
from embedsearch.store.writer import tracked_files
from embedsearch.types import Metric, Progress

_LIBRARIES = (
    "embedsearch",
    "faiss-cpu",
    "keras",
    "numpy",
    "pillow",
    "pylance",
    "torch",
    "torchvision",
    "transformers",
)


def commit_generation(
    layout: Layout,
    state: BuildState,
    source: ItemSource | ArraySource,
    encoder: Encoder | None,
    request: IndexRequest,
    skips: SkipLog,
    progress: Progress,
) -> Manifest:
    """Makes the generation that `state` has extracted, and commits it."""
    postprocess = _project(layout, state, source, progress)
    writer = StoreWriter(layout.items, store_schema(source, state.recipe), fresh=state.items_are_fresh)
    if isinstance(source, ArraySource):
        writer.create_empty(source.dim)
    progress.stage("compacting the store", 1)
    writer.compact()
    progress.advance(1)
    store = writer.open()
    entry, written = make_index(layout, state.generation, store, state.recipe.metric, request, progress)
    committed = [*tracked_files(layout.items, store.version), *written]
    if postprocess is not None:
        committed.append(postprocess)
    flush(layout.root, committed)
    skips.publish(layout.skipped)
    kept = state.manifest.renamed if state.updates and state.manifest is not None else {}
    manifest = Manifest(
        generation=state.generation,
        recipe=state.recipe,
        source=source.location,
        dim=store.dim,
        n_items=len(store),
        n_skipped=skips.total,
        n_truncated=store.count_where(long_texts_condition(state.recipe)),
        store=StoreEntry(store.version),
        index=entry,
        postprocess=None if postprocess is None else postprocess.name,
        files=record_files(layout.root, committed),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        previous=None if state.manifest is None else state.manifest.held,
        weights_origin=None if encoder is None else encoder.weights_origin,
        renamed={**kept, **source.renamed},
        libraries=library_versions(),
    )
    write_manifest(layout, manifest)
    tidy(layout, manifest)
    return manifest


def make_index(
    layout: Layout, generation: int, store: ItemStore, metric: Metric, request: IndexRequest, progress: Progress
) -> tuple[IndexEntry, list[Path]]:
    """An index over all rows of a compact store, saved as that of a generation; its files have yet to be flushed.

    Raises PromiseError when it cannot do what `request` asks.
    """
    choice, promised = choose_index(request, len(store), store.dim), request
    if len(store) == 0:  # nothing can be learnt from; what was asked for is kept until there is something
        choice, promised = Choice("flat", "the index is empty"), IndexRequest()
    with _disk_told():
        built = build_index(store, metric, choice, promised, layout.root, progress)
        path = layout.index(generation, built.index.suffix)
        written = _save(built.index, path)
    rows = layout.rows(generation)
    write_positions(store, rows)
    entry = IndexEntry(
        file=path.name,
        family=choice.family,
        reason=choice.reason,
        build=dict(choice.build),
        search=dict(choice.search if built.tuned is None else built.tuned.search),
        bytes_per_vector=round(built.index.bytes_per_vector, 1),
        recall_at_10=_recall(built),
        rows=rows.name,
        store_version=store.version,
        request=request.to_dict(),
        tuned=None if built.tuned is None else built.tuned.to_dict(),
        threads=n_threads(),
        simd=simd_level(),
        disk_bytes_per_vector=round(built.index.disk_bytes_per_vector, 1),
    )
    return entry, [*written, rows]


def _recall(built: Built) -> float | None:
    if built.tuned is not None:
        return built.tuned.measured.recall
    return 1.0 if built.index.exact else None


def _project(layout: Layout, state: BuildState, source: ItemSource | ArraySource, progress: Progress) -> Path | None:
    """The file of this generation's projection; where it has yet to be fitted, items.lance is filled here."""
    if not state.recipe.needs_fit:
        return None
    if not state.fits:
        assert state.manifest is not None
        return layout.root / str(state.manifest.postprocess)
    if isinstance(source, ArraySource):
        state.writer(layout, store_schema(source, state.recipe)).create_empty(source.dim)  # for a matrix without rows
    pooled = ItemStore.open(layout.pooled)
    progress.stage("fitting " + ("PCA" if state.recipe.pca else "whitening"), 1)
    projection = fit_on_store(pooled, state.recipe)
    progress.advance(1)
    path = layout.postprocess(state.generation)
    projection.save(path)
    progress.stage("projecting", len(pooled))
    finish = Postprocess(state.recipe.normalize, projection)
    writer = StoreWriter(layout.items, store_schema(source, state.recipe), fresh=True)
    writer.rewrite(pooled, finish.after, progress.advance, projection.matrix.shape[1])
    state.items_are_fresh = False
    return path


def _save(index: VectorIndex, path: Path) -> list[Path]:
    try:
        return index.save(path)
    except (RuntimeError, OSError) as error:  # the first is FAISS's way to say that the disk is full
        for part in path.parent.glob(path.name + "*"):
            part.unlink()
        raise OSError(*error.args) from error


@contextmanager
def _disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EmbedSearchError(f"the index cannot be written: {str(error).splitlines()[0]}") from error


def library_versions() -> dict[str, str]:
    """Names and versions of what an index was made with."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def asked_for(entry: IndexEntry) -> IndexRequest:
    """What the user wanted of an index when it was built."""
    if entry.request:
        return IndexRequest.from_dict(entry.request)
    return IndexRequest(entry.family if entry.reason == ASKED_FOR else "auto")  # before requests were recorded
