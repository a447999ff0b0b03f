"""From the tasks of a walk to blocks of rows for the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from embedsearch.errors import ItemError
from embedsearch.executors import ProcessExecutor
from embedsearch.pipeline.chunks import chunk_ids, chunk_metadata
from embedsearch.pipeline.content import content_of, with_digest
from embedsearch.pipeline.encode import Encoder
from embedsearch.pipeline.network import NOT_FINITE
from embedsearch.pipeline.walk import Task, repeated, tasks
from embedsearch.sources import ArraySource, ItemSource, printable
from embedsearch.sources.arrays import row_hash
from embedsearch.store import Ledger, Visit
from embedsearch.types import Block, Item, Modality, Skip
from embedsearch.vectors import Matrix, finite_rows

# rows between two commits; a kill costs two such shards at most, for one is computed while the other is stored
SHARD_SIZES = {Modality.IMAGE: 64, Modality.TEXT: 1024, Modality.TENSOR: 64, Modality.VECTOR: 65536}
_CHUNKED_SHARD = 128  # texts that may be long: each becomes several rows


@dataclass(slots=True)
class Shard:
    """What became of one task: rows to store, inputs left out, inputs known before.

    inputs: ids of those that the rows were made of. changed: ids whose stored rows the inputs replace. unchanged:
    those of them whose content is what is stored, and which have not gone through the network.
    n_reported: how many were told to the progress already, batch by batch. seconds: that it took in another process, by
    stage.
    """

    block: Block
    inputs: list[str] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    unchanged: list[Item] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    n_known: int = 0
    n_reported: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def n_unreported(self) -> int:
        return len(self.inputs) + len(self.unchanged) + len(self.skips) + self.n_known - self.n_reported


def shards(
    source: ItemSource | ArraySource,
    ledger: Ledger,
    encoder: Encoder | None,
    finish: Callable[[Matrix], Matrix],
    report: Callable[[int], None],
) -> Iterator[Shard]:
    """Shards of a whole source in its order.

    finish: takes pooled vectors to those that are stored. report: is told how many inputs were encoded,
    batch by batch.
    """
    size = SHARD_SIZES[source.modality]
    if isinstance(source, ArraySource):
        yield from _array_shards(source, ledger, finish, size)
    elif encoder is not None:
        size = _CHUNKED_SHARD if encoder.recipe.is_chunked else size
        makers = [partial(_elsewhere, maker, finish) for maker in encoder.elsewhere()]
        if makers:
            for shard in ProcessExecutor(makers).map(tasks(source, ledger, size)):
                for stage, seconds in shard.seconds.items():
                    encoder.clock.add(stage, seconds)
                yield shard
            return
        telling = _OneAtATime(report)
        worker = Worker(encoder, finish, telling)
        yield from encoder.executor(telling.end).map(lambda: worker, tasks(source, ledger, size))


def _elsewhere(make_encoder: Callable[[], Encoder], finish: Callable[[Matrix], Matrix]) -> Callable[[Task], Shard]:
    """What runs tasks in a process of its own, and sends the time they took along."""
    encoder = make_encoder()
    worker = Worker(encoder, finish, None)

    def run(task: Task) -> Shard:
        shard = worker(task)
        shard.seconds = encoder.clock.taken()
        return shard

    return run


class _Over(BaseException):
    """Ends what nobody waits for any more."""


class _OneAtATime:
    """Tells a progress from several threads, in turns, and ends those that go on when nobody listens."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self._turn = threading.Lock()
        self._is_over = False

    def end(self) -> None:
        self._is_over = True

    def __call__(self, n: int) -> None:
        if self._is_over:
            raise _Over
        with self._turn:
            self._report(n)


class Worker:
    """Runs tasks through one encoder."""

    def __init__(
        self, encoder: Encoder, finish: Callable[[Matrix], Matrix], report: Callable[[int], None] | None
    ) -> None:
        self._encoder = encoder
        self._finish = finish
        self._report = report

    def __call__(self, task: Task) -> Shard:
        recipe = self._encoder.recipe
        contents = [content_or_error(item, recipe.modality) for item in task.items]
        unchanged = [i for i, item in enumerate(task.items) if self._is_as_stored(item, task, contents, i)]
        if unchanged:
            left = sorted(set(range(len(contents))).difference(unchanged))
            task, same = replace(task, items=[task.items[i] for i in left]), [task.items[i] for i in unchanged]
            contents = [contents[i] for i in left]
        else:
            same = []
        report = None if recipe.is_chunked else self._report  # batches of chunks say little of inputs
        encoded = self._encoder.pooled(contents, report, chunks=recipe.is_chunked)
        vectors = self._finish(encoded.vectors)
        bad = {encoded.kept[row] for row in np.flatnonzero(~finite_rows(vectors))}
        good = [row for row in range(len(vectors)) if encoded.kept[row] not in bad]
        items = [task.items[encoded.kept[row]] for row in good]
        block = Block(
            ids=[item.id for item in items],
            vectors=vectors[good],
            uris=[printable(item.uri) for item in items],
            content_hashes=[encoded.hashes[row] for row in good],
            fingerprints=[item.fingerprint for item in items],
            truncated=[encoded.long[row] for row in good],
            metadata=[item.metadata for item in items],
        )
        if recipe.is_chunked:
            _name_chunks(block, items, [encoded.spans[row] for row in good])
        failures = sorted([*((i, str(error)) for i, error in encoded.failures), *((i, NOT_FINITE) for i in bad)])
        skips = [Skip(task.items[i].id, task.items[i].uri, reason) for i, reason in failures]
        inputs = list(dict.fromkeys(item.id for item in items))
        n_reported = 0 if report is None else len(encoded.kept)
        return Shard(block, inputs, task.changed, same, [*task.skips, *skips], task.n_known, n_reported)

    def _is_as_stored(self, item: Item, task: Task, contents: list[Any], i: int) -> bool:
        """Whether the content of a changed input is what is stored for it; what was read for that is kept."""
        kept = task.hashes.get(item.id)
        if kept is None or isinstance(contents[i], ItemError):
            return False
        try:
            contents[i], digest = with_digest(contents[i], self._encoder.recipe.modality)
        except ItemError as error:
            contents[i] = error
            return False
        return digest == kept


def _name_chunks(block: Block, items: list[Item], spans: list[tuple[int, int]]) -> None:
    """Gives rows of the same item ids of their own, and metadata that tell where they are in it."""
    start = 0
    for item, own in groupby(items, key=lambda item: item.id):
        n = len(list(own))
        block.ids[start : start + n] = chunk_ids(item, n)
        block.metadata[start : start + n] = chunk_metadata(items[start], spans[start : start + n])
        start += n


def content_or_error(item: Item, modality: Modality) -> Any:
    """What `Encoder.pooled` takes for an item of a source."""
    try:
        return content_of(item, modality)
    except ItemError as error:
        return error  # told by the encoder, in its place


def _array_shards(
    source: ArraySource, ledger: Ledger, finish: Callable[[Matrix], Matrix], size: int
) -> Iterator[Shard]:
    for ids, x, metadata in source.blocks(size):
        finite = finite_rows(x)
        skips = [Skip(ids[row], "", "the vector holds NaN or infinity") for row in np.flatnonzero(~finite)]
        sound = np.flatnonzero(finite).tolist()
        digests = [row_hash(x[row], metadata[row] or None) for row in sound]
        ledger.expect(ids)
        rows, prints, n_known = [], [], 0
        changed: set[str] = set()
        visits = ledger.visit_all([ids[row] for row in sound], digests)
        for row, digest, visit in zip(sound, digests, visits, strict=True):
            if visit is Visit.REPEATED:
                skips.append(repeated(ids[row]))
            elif visit is Visit.KNOWN:
                n_known += 1
            else:
                rows.append(row)
                if visit is Visit.CHANGED:
                    changed.add(ids[row])
                prints.append(digest)
        block = Block(
            ids=[ids[row] for row in rows],
            vectors=finish(x[rows]),
            uris=[""] * len(rows),
            content_hashes=prints,
            fingerprints=prints,
            truncated=[False] * len(rows),
            metadata=[metadata[row] for row in rows],
        )
        yield Shard(block, block.ids, changed, [], skips, n_known)
