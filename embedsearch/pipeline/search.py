"""Vectors in, rows and scores out: joins the index with the store that tells what the rows are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.artifact import Layout, Manifest, read_manifest, verify_files
from embedsearch.errors import DamagedIndexError, OutdatedReaderError, UsageError, counted, unknown
from embedsearch.index import LiveIndex, VectorIndex
from embedsearch.index.base import N_EXTRA
from embedsearch.index.choose import require_recall
from embedsearch.index.flat import FlatIndex
from embedsearch.index.growth import K_GROWTH
from embedsearch.pipeline.advice import Drift, judged
from embedsearch.pipeline.positions import current_index
from embedsearch.pipeline.tuning import Point, at_recall, stored_curve
from embedsearch.registry import INDEXES
from embedsearch.store import ItemStore
from embedsearch.types import Hits, Metric
from embedsearch.vectors import Matrix, l2_normalize, require_finite

# where a condition leaves at most so many rows, they are compared one by one with what is stored
EXACT_ROWS = 1000

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(slots=True)
class Searcher:
    """One generation of an index, opened: its manifest, store and FAISS structure never change.

    main: the index as it was built. index: what is searched, with what came and went since. curve: what each effort
    was measured to find.
    """

    root: Path
    manifest: Manifest
    store: ItemStore
    main: VectorIndex
    index: VectorIndex | LiveIndex
    curve: list[Point]

    @classmethod
    def open(cls, root: Path, *, verify_everything: bool = False, before: Self | None = None) -> Self:
        """The committed generation.

        before: another generation of the same folder, that is open; what both are made of is neither verified nor
        read again. Raises ArtifactError when `root` is no index, DamagedIndexError when a file is not what was written.
        """
        while True:
            manifest = read_manifest(root)
            try:
                return cls._open(root, manifest, verify_everything, before)
            except (DamagedIndexError, OutdatedReaderError):
                # a writer may have replaced it meanwhile, and removed what nobody should hold any more
                if read_manifest(root).generation == manifest.generation:
                    raise

    @classmethod
    def _open(cls, root: Path, manifest: Manifest, verify_everything: bool, before: Self | None) -> Self:
        known = {} if before is None else before.manifest.files
        new = {name: record for name, record in manifest.files.items() if known.get(name) != record}
        verify_files(root, new, everything=verify_everything)
        store = ItemStore.open(Layout(root).items, manifest.store.version)
        file, metric = manifest.index.file, manifest.recipe.metric
        if before is not None and file == before.manifest.index.file and file not in new:
            main = before.main
        else:
            main = INDEXES.get(manifest.index.family).load(root / file, metric)
        curve = stored_curve(manifest.index.tuned)
        return cls(root, manifest, store, main, current_index(root, manifest, main, store), curve)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around the reading of files that were not read when it was opened: they may have been removed since."""
        try:
            yield
        except DamagedIndexError as error:
            if outdated := self.store.outdated:
                raise outdated from error
            raise

    def encodes_as(self, other: Self) -> bool:
        """Whether inputs become the same vectors in both."""
        mine, theirs = self.manifest, other.manifest
        return mine.recipe == theirs.recipe and _record(mine) == _record(theirs)

    def drift(self) -> Drift:
        """How far the index is from one that is built now."""
        n_tail, n_dead = (self.index.n_tail, self.index.n_dead) if isinstance(self.index, LiveIndex) else (0, 0)
        return judged(self.store, self.manifest.index, n_tail, n_dead)

    def search(
        self,
        x: Matrix,
        k: int,
        where: str | None = None,
        recall: float | None = None,
        *,
        allowed: NDArray[np.bool_] | None = None,
        n_extra: int = 0,
    ) -> tuple[Rows, Scores]:
        """Rows int64 and scores float32 of the k best, both N x min(k, number of items), best first.

        x: float32 N x D, as `vectors.as_matrix` gives it. where: an SQL condition that answers must
        meet; k shrinks to the number that do. recall: recall@10 that this search has to reach, in place of what the
        index was built for. allowed: bool per row, in place of a condition. n_extra: of the k, those for which no
        effort is to be made. A row is -1, with a NaN score, where an approximate index found fewer. Raises UsageError
        for k < 1, NaN or infinity, a condition that is not understood, or a recall that was not measured.
        """
        if k < 1:
            raise UsageError(f"k is {k}; it must be at least 1")
        x = self.as_asked(x)
        if where is not None:
            allowed = self.allowed(where)
        k = min(k, len(self.index) if allowed is None else int(allowed.sum()))
        if k == 0 or len(x) == 0:
            return np.empty((len(x), k), np.int64), np.empty((len(x), k), np.float32)
        params = {**self._effort(recall), N_EXTRA: n_extra} if n_extra else self._effort(recall)
        if allowed is not None and not self.main.exact and int(allowed.sum()) <= EXACT_ROWS:
            scores, rows = self._exactly(x, k, allowed)
        else:
            scores, rows = self.index.search(x, k, params, allowed)
        if rows.min() < 0:
            scores[rows < 0] = np.nan
        return rows, scores

    def _effort(self, recall: float | None) -> Mapping[str, int]:
        entry = self.manifest.index
        if recall is None or self.main.exact:
            require_recall(recall)
            return entry.search
        found = at_recall(self.curve, require_recall(recall))
        if found is None:
            most = max((point.recall for point in self.curve), default=None)
            told = "was not measured" if most is None else f"was measured to reach at most {most:.4f}"
            raise UsageError(
                f"recall {recall:g} cannot be promised: {self.root} {told}; ask for less, or build it with "
                f"--recall {recall:g} or --index flat"
            )
        return {**found, **{name: value for name, value in entry.search.items() if name == K_GROWTH}}

    def _exactly(self, x: Matrix, k: int, allowed: NDArray[np.bool_]) -> tuple[Scores, Rows]:
        """Brute force over the vectors of few rows, as they are stored."""
        among = np.flatnonzero(allowed)
        flat = FlatIndex.create(self.store.dim, self.manifest.recipe.metric, {})
        vectors = self.store.vectors_at(among)
        flat.train(vectors)
        flat.add(vectors)
        scores, found = flat.search(x, k, {})
        return scores, among[found]

    def as_asked(self, x: Matrix) -> Matrix:
        """Queries as the index compares them. Raises UsageError for NaN or infinity."""
        require_finite(x)
        return l2_normalize(x) if self.manifest.recipe.metric is Metric.COSINE else x

    def allowed(self, where: str) -> NDArray[np.bool_]:
        """Whether a condition holds, for each row. Raises UsageError for one that is not understood."""
        allowed = np.zeros(len(self.store), np.bool_)
        allowed[self.store.rows_where(where)] = True
        return allowed

    def hits(
        self,
        rows: Rows,
        scores: Scores,
        k: int | None,
        where: str | None = None,
        limit: float | None = None,
        what: str = "items",
    ) -> Hits:
        """The answer to one query: hits with metadata, and a note where fewer than k came back; `what` is
        counted in it. k: None where all were asked for. limit: the worst score that is wanted."""
        higher = self.manifest.recipe.metric.higher_is_better
        found = rows >= 0
        n_found = int(found.sum())
        if limit is not None:
            found &= scores >= limit if higher else scores <= limit
        hits = Hits(self.store.hits(rows[found], scores[found]))
        if k is None:
            if limit is not None and not len(hits) and n_found:
                none = (
                    f"no item scores {limit:g} or more; the best scores"
                    if higher
                    else (f"no item is within a squared distance of {limit:g}; the nearest is at")
                )
                hits.note = f"{none} {scores[0]:.4g}"
            k = len(hits)
        elif len(hits) < n_found:
            near = f"score at least {limit:g}" if higher else f"are within a squared distance of {limit:g}"
            hits.note = f"{len(hits)} of the {n_found} best {near}"
        if hits.note is not None:
            return hits
        if n_found < len(rows):
            hits.note = f"the index found {n_found} of the {len(rows)} {what} that are there to be found"
        elif len(self.store) == 0:
            hits.note = "the index is empty"
        elif len(rows) == 0:
            hits.note = "no item meets the condition" if where else "there is no other item"
        elif len(hits) < k:
            hits.note = f"{n_found} {what} are there to be found, {k} were asked for"
        return hits

    def rows_of(self, ids: Sequence[Any]) -> Rows:
        """The rows of known ids. Raises UnknownNameError naming the first that is not in the index, UsageError for what
        is no id."""
        ids = as_ids(ids)
        rows = self.store.rows_of(ids)
        if (rows < 0).any():
            missing = ids[int(np.argmax(rows < 0))]
            raise unknown("id", missing, self.store.some("id"), f"({counted(len(self.store), 'item')} in {self.root})")
        return rows


def as_ids(ids: Any) -> list[str]:
    """Ids as the index has them: whole numbers are written out, as a build does it. Raises UsageError for all else."""
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise UsageError(f"ids are {ids!r}; give a list of them")
    found = []
    for given in ids:
        if isinstance(given, bool) or not isinstance(given, str | Integral):
            raise UsageError(f"{given!r} is no id; an id is a text, or a whole number that stands for one")
        found.append(str(given))
    return found


def _record(manifest: Manifest) -> object:
    """What tells one projection from another."""
    return manifest.files.get(str(manifest.postprocess))
