"""From the store to an index that is known to find what it should."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedsearch.errors import PromiseError
from embedsearch.index import Choice, IndexRequest, VectorIndex
from embedsearch.index.choose import in_mib
from embedsearch.pipeline.fit import sample_rows
from embedsearch.pipeline.truth import exact_truth, query_rows
from embedsearch.pipeline.tuning import DEPTH, N_TIMED, K, Tuned, confirm, time_exact, tune
from embedsearch.registry import INDEXES
from embedsearch.store import ItemStore
from embedsearch.types import Metric, Progress

_BLOCK_VALUES = 2**22  # of vectors that are read at a time
_WORTH_TIMING = 1000  # vectors: fewer are compared in no time


@dataclass(frozen=True, slots=True)
class Built:
    """An index over all rows of a store. tuned: None where it has too few rows to measure with."""

    index: VectorIndex
    choice: Choice
    tuned: Tuned | None


def build_index(
    store: ItemStore, metric: Metric, choice: Choice, request: IndexRequest, folder: Path, progress: Progress
) -> Built:
    """Adds the store's vectors in row order, a block at a time, and tunes the search; nothing is extracted again.

    folder: where there is room for what does not stay in memory. Raises PromiseError when the index cannot do what
    `request` asks.
    """
    n = len(store)
    index: VectorIndex = INDEXES.get(choice.family).create(store.dim, metric, choice.build)
    measurable = not index.exact and n > K
    queries = query_rows(n) if measurable else np.empty(0, np.int64)
    if index.needs_training:
        progress.stage(f"training ({choice.family})", 1)
        index.train(store.vectors_at(sample_rows(n, without=queries, most=index.training_rows)))
        progress.advance(1)
    if index.holds_out:
        index.hold_out(queries)
    index.work_in(folder)
    index.reserve(n)
    progress.stage(f"indexing ({choice.family}, about {in_mib(choice.memory_bytes)})", n)
    for block in store.vector_blocks(max(_BLOCK_VALUES // store.dim, 256)):
        index.add(block)
        progress.advance(len(block))
    progress.stage(f"finishing ({choice.family})", n)
    index.complete(progress.advance)
    tuned = None
    if index.exact and (n >= _WORTH_TIMING or (n and request.latency_ms is not None)):
        tuned = time_exact(index, store.vectors_at(query_rows(n)[:N_TIMED]), request)
    if measurable:
        truth = exact_truth(store, queries, DEPTH, metric, progress, apart=index.holds_out)
        tuned = tune(index, truth, request, choice.search, progress)
    index.admit(progress.advance)
    if tuned is not None and index.holds_out:
        tuned = confirm(index, truth.with_one_another(), request, tuned)
    _require_memory(index, request)
    return Built(index, choice, tuned)


def _require_memory(index: VectorIndex, request: IndexRequest) -> None:
    taken = round(index.bytes_per_vector * len(index))
    if request.memory_bytes is not None and taken > request.memory_bytes:
        allowed = in_mib(request.memory_bytes, as_limit=True)
        raise PromiseError(
            f"{index.family} takes {in_mib(taken)}, more than --memory {allowed} allows; "
            f"allow --memory {in_mib(taken)}, or take --index ivf or fewer dimensions with --pca"
        )
