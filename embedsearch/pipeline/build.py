"""The main pass: from a source to a committed generation of an index, going on where a kill left it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from embedsearch.artifact import Layout, write_lock, write_manifest
from embedsearch.config import Recipe
from embedsearch.errors import ContradictionError, DamagedIndexError, SourceError, counted
from embedsearch.index import IndexRequest, choose_index
from embedsearch.pipeline.change.numbered import require_own_numbers
from embedsearch.pipeline.chunks import input_column, store_schema
from embedsearch.pipeline.columns import fitted_columns
from embedsearch.pipeline.commit import asked_for, commit_generation
from embedsearch.pipeline.encode import Encoder
from embedsearch.pipeline.extract import content_or_error, shards
from embedsearch.pipeline.precision import N_LOOKED_AT
from embedsearch.pipeline.skips import SkipLog, nothing_to_index
from embedsearch.pipeline.state import BuildState, open_state, recorded_recipe, require_ours, stored, tidy
from embedsearch.pipeline.timing import STORING, Clock, Timing
from embedsearch.postprocess import Postprocess, Projection
from embedsearch.sources import UNLISTED, ArraySource, ItemSource
from embedsearch.store import ItemStore, Ledger, StoreWriter
from embedsearch.store.writer import latest_version
from embedsearch.types import Item, Progress


@dataclass(slots=True)
class BuildReport:
    """What a build did.

    encoder: the network, its layers and where its weights were found; "" for vectors. n_new: inputs
    extracted now. n_known: inputs that were stored already. n_removed: inputs that the source no longer has.
    n_guests: inputs that were added from other sources, and stay. n_dropped: items that were added, and are gone
    because the build began anew. reasons: why inputs were left out, and how often. renamed: metadata columns that are
    kept under other names. up_to_date: nothing to do. index: what the index is and was measured to do, as IndexEntry
    has it. projection: how PCA or whitening was fitted, "" without. timing: of the extraction, None where nothing was
    extracted.
    """

    root: Path
    resumed: bool
    n_items: int = 0
    n_new: int = 0
    n_known: int = 0
    n_removed: int = 0
    n_guests: int = 0
    n_dropped: int = 0
    n_skipped: int = 0
    n_truncated: int = 0
    long_texts: str = ""
    encoder: str = ""
    up_to_date: bool = False
    reasons: dict[str, int] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    index: dict[str, Any] = field(default_factory=dict)
    projection: str = ""
    timing: Timing | None = None


def run_build(
    source: ItemSource | ArraySource,
    root: Path,
    recipe: Recipe,
    encoder: Encoder | None,
    *,
    asked: Mapping[str, Any],
    restart: bool,
    progress: Progress,
) -> BuildReport:
    """Builds, goes on with, or brings up to date the index at `root`; one commit at the end.

    recipe: fully resolved but for the precision. encoder: of that recipe, None for a matrix. asked: fields of an
    IndexRequest; where an index is brought up to date, they take the place of what was asked for before, and the others
    stay. Raises EmbedSearchError of all kinds; whatever was committed before stays as it was.
    """
    layout = Layout(root)
    require_ours(layout)
    root.mkdir(parents=True, exist_ok=True)
    with write_lock(root):
        if encoder is not None:
            settle(encoder, layout, source, restart=restart)
            recipe = encoder.recipe
        state = open_state(layout, recipe, source, restart=restart)
        if state.updates and state.manifest is not None:  # rows that were added are not to be lost to their numbers
            own = ItemStore.open(layout.items, state.manifest.store.version)
            require_own_numbers(source, own, input_column(state.recipe), None)
        before = state.manifest.index if state.updates and state.manifest is not None else None
        # what was promised once goes on being kept
        index = replace(IndexRequest() if before is None else asked_for(before), **dict(asked))
        with SkipLog(layout.skipped_partial, before=layout.skipped if state.updates else None) as skips:
            report = _extract(layout, state, source, encoder, skips, progress)
            if _is_up_to_date(layout, state, report, index):
                return _refresh(layout, state, report, skips)
            manifest = commit_generation(layout, state, source, encoder, index, skips, progress)
        report.n_items, report.n_truncated = manifest.n_items, manifest.n_truncated
        report.index = asdict(manifest.index)
        if manifest.postprocess is not None:
            report.projection = Projection.load(layout.root / manifest.postprocess).note
        if not state.updates and state.manifest is not None:
            with contextlib.suppress(DamagedIndexError, OSError, ValueError):  # what is replaced may be damaged
                report.n_dropped = ItemStore.open(layout.items, state.manifest.store.version).n_added
        return report


def _extract(
    layout: Layout,
    state: BuildState,
    source: ItemSource | ArraySource,
    encoder: Encoder | None,
    skips: SkipLog,
    progress: Progress,
) -> BuildReport:
    """Brings the store in line with the source, one commit a shard."""
    postprocess = Postprocess(state.recipe.normalize, state.projection)
    writer = _writer(layout, state, source)
    key = input_column(state.recipe)
    report = BuildReport(layout.root, state.resumed, long_texts=state.recipe.long_texts, renamed=source.renamed)
    if encoder is not None:
        report.encoder = (
            f"{state.recipe.backbone} at {', '.join(state.recipe.layers)}, pooled by {state.recipe.pooling}, "
            f"weights: {encoder.weights_origin}, "
            f"in {state.recipe.precision} ({encoder.precision_reason})"
        )
    gone: list[str] = []
    unlisted: list[str] = []
    with Ledger(stored(writer, key)) as ledger:
        progress.stage("extracting" if encoder else "storing", source.count())
        clock = Clock({}) if encoder is None else encoder.clock
        clock.restart()
        finish = postprocess.before if state.fits else postprocess
        for shard in shards(source, ledger, encoder, finish, progress.advance):
            if len(shard.block):
                with clock.stage(STORING):
                    if shard.changed:
                        writer.replace(shard.block, sorted(shard.changed), key)
                    else:
                        writer.append(shard.block)
            for skip in shard.skips:
                skips.add(skip if skip.uri else replace(skip, uri=source.location))
                if skip.reason.startswith(UNLISTED):
                    unlisted.append(skip.id)  # what lies below may still be there
            report.n_new += len(shard.inputs)
            report.n_known += shard.n_known
            progress.advance(shard.n_unreported, len(shard.skips))
            # a known input that can no longer be read must not answer with what it was
            gone += sorted(filter(ledger.owns, shard.changed.difference(shard.inputs)))
        report.timing = clock.timing() if report.n_new else None
        gone += [item_id for item_id in ledger.unmet() if not item_id.startswith(tuple(unlisted))]
        report.n_guests = ledger.n_guests()
    if report.n_new + report.n_known == 0 and (encoder is not None or gone):
        # an unmounted drive must not cost what was extracted from it
        raise SourceError(nothing_to_index(source, skips, layout) + _kept(layout, len(gone)))
    if gone:
        writer.delete(gone, key)
    state.wrote(writer)
    report.n_removed, report.n_skipped, report.reasons = len(gone), skips.n, dict(skips.reasons)
    report.n_items = 0 if writer.is_empty else len(writer.open())
    return report


def _kept(layout: Layout, n: int) -> str:
    if n == 0:
        return ""
    return (
        f"; {layout.root} keeps {counted(n, 'item')} of it; to take out what came from its own source, use "
        f'`embedsearch delete {layout.root} --where "added_from IS NULL"`'
    )


def settle(encoder: Encoder, layout: Layout, source: ItemSource | ArraySource, *, restart: bool) -> None:
    """Leaves the precision of `encoder` no more open: that of the build or index that is there, or the one that the
    first inputs of the source call for. Raises UsageError where that cannot be computed here."""
    if encoder.recipe.precision not in ("auto", "int8") or isinstance(source, ArraySource):
        return
    recorded = None if restart else recorded_recipe(layout)
    if recorded is not None and recorded.backbone is not None and recorded.precision != "auto":
        encoder.take_precision(recorded.precision)
        encoder.require_precision()
        return
    encoder.require_precision()
    items = (entry for entry in islice(source, N_LOOKED_AT) if isinstance(entry, Item))
    contents = [content_or_error(item, encoder.recipe.modality) for item in items]
    encoder.settle_precision(contents)
    encoder.tell_precision(contents)


def _writer(layout: Layout, state: BuildState, source: ItemSource | ArraySource) -> StoreWriter:
    """For rows in the columns that are there already, and those that the source brings."""
    writer = state.writer(layout, store_schema(source, state.recipe))
    if not writer.is_empty:
        store = writer.open()
        if isinstance(source, ArraySource):
            _require_width(layout, source, store.dim if state.projection is None else len(state.projection.mean))
        columns = fitted_columns(store, source, state.recipe)
        writer = state.writer(layout, columns)
        if new := [field for field in columns if field.name not in store.schema.names]:
            writer.add_columns(pa.schema(new))
    return writer


def _require_width(layout: Layout, source: ArraySource, width: int) -> None:
    if source.dim != width:
        raise ContradictionError(
            f"{layout.root} holds vectors of {width} dimensions, {source.location or 'the matrix'} has {source.dim}; "
            "give another folder with --out, or replace it with --restart"
        )


def _is_up_to_date(layout: Layout, state: BuildState, report: BuildReport, index: IndexRequest) -> bool:
    manifest = state.manifest
    if manifest is None or state.resumed or report.n_new or report.n_removed:
        return False
    as_asked = asked_for(manifest.index) == index
    if not (as_asked or manifest.index.request):  # before requests were recorded
        as_asked = choose_index(index, manifest.n_items, manifest.dim).family == manifest.index.family
    return as_asked and not state.items_are_fresh and latest_version(layout.items) == state.base_version


def _refresh(layout: Layout, state: BuildState, report: BuildReport, skips: SkipLog) -> BuildReport:
    """Nothing to index; what is left out may still have changed."""
    assert state.manifest is not None
    skips.publish(layout.skipped)
    if skips.total != state.manifest.n_skipped:
        write_manifest(layout, replace(state.manifest, n_skipped=skips.total))
    tidy(layout, state.manifest)
    report.n_truncated, report.up_to_date = state.manifest.n_truncated, True
    report.index = asdict(state.manifest.index)
    return report
