"""From the tasks of a walk to blocks of rows for the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from embedsearch.errors import ItemError
from embedsearch.executors import LocalExecutor
from embedsearch.pipeline.content import content_of
from embedsearch.pipeline.encode import Encoder
from embedsearch.pipeline.walk import Task, repeated, tasks
from embedsearch.sources import ArraySource, ItemSource, printable
from embedsearch.store import Ledger, Visit
from embedsearch.types import Block, Item, Modality, Skip
from embedsearch.vectors import Matrix, finite_rows

# rows between two commits: what a kill can cost at most
SHARD_SIZES = {Modality.IMAGE: 128, Modality.TEXT: 2048, Modality.VECTOR: 65536}

_NOT_FINITE = "the network gives NaN or infinity for it"


@dataclass(slots=True)
class Shard:
    """What became of one task: rows to store, inputs left out, inputs known before.

    changed: ids whose stored rows the inputs replace. n_reported: how many of them were told to the
    progress already, batch by batch.
    """

    block: Block
    changed: set[str] = field(default_factory=set)
    skips: list[Skip] = field(default_factory=list)
    n_known: int = 0
    n_reported: int = 0

    @property
    def n_unreported(self) -> int:
        return len(self.block) + len(self.skips) + self.n_known - self.n_reported


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
        worker = Worker(encoder, finish, report)
        yield from LocalExecutor().map(lambda: worker, tasks(source, ledger, size))


class Worker:
    """Runs tasks through one encoder."""

    def __init__(self, encoder: Encoder, finish: Callable[[Matrix], Matrix], report: Callable[[int], None]) -> None:
        self._encoder = encoder
        self._finish = finish
        self._report = report

    def __call__(self, task: Task) -> Shard:
        modality = self._encoder.recipe.modality
        encoded = self._encoder.pooled([_content(item, modality) for item in task.items], self._report)
        vectors = self._finish(encoded.vectors)
        finite = finite_rows(vectors)
        good = [row for row in range(len(vectors)) if finite[row]]
        failures = [*encoded.failures]
        failures += [(encoded.kept[row], _NOT_FINITE) for row in range(len(vectors)) if not finite[row]]
        items = [task.items[encoded.kept[row]] for row in good]
        block = Block(
            ids=[item.id for item in items],
            vectors=vectors[good],
            uris=[printable(item.uri) for item in items],
            content_hashes=[encoded.hashes[row] for row in good],
            fingerprints=[item.fingerprint for item in items],
            truncated=[encoded.truncated[row] for row in good],
            metadata=[item.metadata for item in items],
        )
        skips = [Skip(task.items[i].id, task.items[i].uri, reason) for i, reason in sorted(failures)]
        return Shard(block, task.changed, [*task.skips, *skips], task.n_known, len(encoded.kept))


def _content(item: Item, modality: Modality) -> Any:
    try:
        return content_of(item, modality)
    except ItemError as error:
        return error  # told by the encoder, in its place


def _array_shards(
    source: ArraySource, ledger: Ledger, finish: Callable[[Matrix], Matrix], size: int
) -> Iterator[Shard]:
    for ids, x, metadata in source.blocks(size):
        finite = finite_rows(x)
        rows, prints, skips, n_known = [], [], [], 0
        changed: set[str] = set()
        for row, item_id in enumerate(ids):
            if not finite[row]:
                skips.append(Skip(item_id, "", "the vector holds NaN or infinity"))
                continue
            digest = _row_hash(x[row], metadata[row])
            visit = ledger.visit(item_id, digest)
            if visit is Visit.REPEATED:
                skips.append(repeated(item_id))
            elif visit is Visit.KNOWN:
                n_known += 1
            else:
                rows.append(row)
                if visit is Visit.CHANGED:
                    changed.add(item_id)
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
        yield Shard(block, changed, skips, n_known)


def _row_hash(vector: Matrix, metadata: dict[str, Any]) -> str:
    digest = hashlib.blake2b(vector.tobytes(), digest_size=16)
    if metadata:
        digest.update(repr(sorted(metadata.items())).encode())
    return digest.hexdigest()
