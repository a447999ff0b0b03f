"""Adding to an index: new inputs, and known ones in the place of what they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from embedsearch.artifact import verify_files, write_manifest
from embedsearch.config import Recipe
from embedsearch.errors import ContradictionError, SourceError, UsageError
from embedsearch.pipeline.advice import drift_of
from embedsearch.pipeline.change.commit import commit_change
from embedsearch.pipeline.change.merge import Merge, Merged
from embedsearch.pipeline.change.numbered import require_own_numbers
from embedsearch.pipeline.change.opening import Change, changing
from embedsearch.pipeline.change.staging import Staging
from embedsearch.pipeline.chunks import input_column
from embedsearch.pipeline.columns import fitted_columns
from embedsearch.pipeline.encode import Encoder
from embedsearch.pipeline.extract import Shard, shards
from embedsearch.pipeline.skips import SkipLog, nothing_to_index
from embedsearch.postprocess import Postprocess, Projection
from embedsearch.sources import ArraySource, ItemSource, printable
from embedsearch.store import Lookup
from embedsearch.store.writer import block_table
from embedsearch.types import CHUNK_COLUMNS, Block, Item, Progress


@dataclass(slots=True)
class AddReport:
    """What an add did.

    resumed: an add of the same source that was interrupted went on. n_new: inputs that the index did not have.
    n_replaced: inputs with other content than before. n_refreshed: inputs whose content is what it was, and whose
    metadata or fingerprint was brought up to date. n_known: inputs that had not changed, and were not read. n_items: in
    the index now. advice: why `optimize` is worth while now, or None. The rest: see `BuildReport`.
    """

    root: Path
    resumed: bool = False
    n_items: int = 0
    n_new: int = 0
    n_replaced: int = 0
    n_refreshed: int = 0
    n_known: int = 0
    n_skipped: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    advice: str | None = None

    @property
    def up_to_date(self) -> bool:
        """Nothing had to be written."""
        return self.n_new + self.n_replaced + self.n_refreshed == 0


def run_add(
    source: ItemSource | ArraySource,
    root: Path,
    recipe: Recipe,
    encoder: Encoder | None,
    *,
    restart: bool,
    progress: Progress,
) -> AddReport:
    """Adds what `source` gives to the finished index at `root`; one commit at the end.

    recipe: that the index had when `encoder` was made; None is for vectors. Nothing that the index holds goes away:
    neither what the source lacks, nor a known input that cannot be read any more. restart: throws away what an
    interrupted add of this source has extracted. Raises EmbedSearchError of all kinds; the index then stays as it was.
    """
    with changing(root) as change:
        manifest = change.manifest
        if manifest.recipe.differences(recipe):
            raise ContradictionError(f"{root} was built anew meanwhile, with another recipe; run the command again")
        columns = fitted_columns(change.store, source, recipe)
        # in memory everything has the same name, so that it tells nothing of where it came from
        is_own = source.location == manifest.source and not source.location.startswith("<")
        added_from = None if is_own else source.location
        layout = change.layout
        with SkipLog(layout.skipped_partial, added_from, before=layout.skipped) as skips:
            adding = _Adding(change, source, columns, added_from, skips, progress)
            report = adding.vectors() if encoder is None else adding.items(encoder, restart=restart)
            if adding.merged.is_nothing:
                skips.publish(layout.skipped)
                if skips.total != manifest.n_skipped:
                    write_manifest(layout, replace(manifest, n_skipped=skips.total))
            adding.clear()
        return report


class _Adding:
    """The state of one add."""

    def __init__(
        self,
        change: Change,
        source: ItemSource | ArraySource,
        columns: pa.Schema,
        added_from: str | None,
        skips: SkipLog,
        progress: Progress,
    ) -> None:
        self._change = change
        self._source = source
        self._columns = columns
        self._added_from = added_from
        self._skips = skips
        self._progress = progress
        self._merge = Merge(change, columns)
        self._staging: Staging | None = None
        self._report = AddReport(change.layout.root, renamed=source.renamed)
        self.merged = Merged(0, 0, 0)

    def vectors(self) -> AddReport:
        """Rows of a matrix: nothing is extracted, so nothing is staged."""
        assert isinstance(self._source, ArraySource)
        finish = self._postprocess(self._source)
        self._require_own_numbers()
        with Lookup(self._change.store, "id", ()) as ledger:
            self._progress.stage("storing", self._source.count())
            for shard in shards(self._source, ledger, None, finish, self._progress.advance):
                self._count(shard)
                if len(shard.block):
                    table = block_table(self._own(shard.block), self._columns)
                    self._merge.add(_again(table))
        return self._commit()

    def items(self, encoder: Encoder, *, restart: bool) -> AddReport:
        """Inputs of a network: staged shard by shard, then merged at once."""
        manifest, source = self._change.manifest, self._source
        self._require_own_numbers()
        staging = Staging.open(self._change.layout, source.location, manifest.recipe, self._columns, restart=restart)
        self._staging, self._report.resumed = staging, staging.resumed
        with Lookup(self._change.store, input_column(manifest.recipe), staging.staged()) as ledger:
            self._progress.stage("extracting", source.count())
            for shard in shards(source, ledger, encoder, encoder.postprocess, self._progress.advance):
                staging.drop(ledger.take_stale())
                staging.append(self._own(shard.block))
                staging.append(self._own(self._as_stored(shard.unchanged)))
                self._count(shard)
            staging.drop(list(ledger.unmet()))  # the source has them no longer
            self._report.n_known -= ledger.n_staged
        self._progress.stage("merging", 1)
        self._merge.add(staging.batches)
        self._progress.advance(1)
        return self._commit()

    def clear(self) -> None:
        """After the commit nothing has to be gone on with."""
        if self._staging is not None:
            self._staging.discard()

    def _commit(self) -> AddReport:
        change, report = self._change, self._report
        writer, self.merged = self._merge.finish()
        if self._staging is not None and self.merged.is_nothing and report.n_known == 0:
            raise SourceError(nothing_to_index(self._source, self._skips, change.layout))
        report.n_new, report.n_replaced, report.n_refreshed = (
            self.merged.n_new,
            self.merged.n_replaced,
            self.merged.n_refreshed,
        )
        manifest, store = change.manifest, change.store
        if writer is not None:
            self._skips.publish(change.layout.skipped)
            manifest = commit_change(change, writer, n_skipped=self._skips.total, renamed=self._source.renamed)
            store = writer.open()
        report.n_items, report.reasons = manifest.n_items, dict(self._skips.reasons)
        report.advice = drift_of(change.layout.root, manifest, store).advice
        return report

    def _require_own_numbers(self) -> None:
        key = input_column(self._change.manifest.recipe)
        require_own_numbers(self._source, self._change.store, key, self._added_from)

    def _count(self, shard: Shard) -> None:
        for skip in shard.skips:
            self._skips.add(skip if skip.uri else replace(skip, uri=self._source.location))
        self._report.n_known += shard.n_known
        self._report.n_skipped = self._skips.n
        self._progress.advance(shard.n_unreported, len(shard.skips))

    def _own(self, block: Block) -> Block:
        block.added_from = self._added_from
        return block

    def _as_stored(self, items: list[Item]) -> Block:
        """Inputs with the content they had: their rows as they are, with the metadata and fingerprints of now."""
        store, key = self._change.store, input_column(self._change.manifest.recipe)
        now = {item.id: item for item in items}
        rows = store.rows_with(key, list(now))
        chunk_columns = list(CHUNK_COLUMNS) if key != "id" else []
        kept = store.columns_at(rows, [*dict.fromkeys(["id", key, "content_hash", "truncated", *chunk_columns])])
        mine = [now[item_id] for item_id in kept[key].to_pylist()]
        chunks = kept.select(chunk_columns).to_pylist() if chunk_columns else [{}] * len(mine)
        return Block(
            ids=kept["id"].to_pylist(),
            vectors=store.vectors_at(rows),
            uris=[printable(item.uri) for item in mine],
            content_hashes=kept["content_hash"].to_pylist(),
            fingerprints=[item.fingerprint for item in mine],
            truncated=kept["truncated"].to_pylist(),
            metadata=[{**item.metadata, **chunk} for item, chunk in zip(mine, chunks, strict=True)],
        )

    def _postprocess(self, source: ArraySource) -> Postprocess:
        """What makes the vectors of the index of those that are given."""
        manifest, root = self._change.manifest, self._change.layout.root
        projection = None
        if manifest.postprocess is not None:
            # it is read, unlike the rest, so it has to be what was written
            verify_files(root, {manifest.postprocess: manifest.files[manifest.postprocess]})
            projection = Projection.load(root / manifest.postprocess)
        width = manifest.dim if projection is None else len(projection.mean)
        if source.dim != width:
            raise UsageError(f"{source.location} has vectors of {source.dim} dimensions, those of {root} have {width}")
        return Postprocess(manifest.recipe.normalize, projection)


def _again(table: pa.Table) -> Callable[[], Iterator[pa.RecordBatch]]:
    return lambda: iter(table.to_batches())
