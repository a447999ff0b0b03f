"""The neighbours of every row, in a file beside the index."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.artifact import flush, record_files, write_manifest
from embedsearch.errors import DamagedIndexError, UsageError
from embedsearch.index import LiveIndex
from embedsearch.pipeline.change.opening import changing
from embedsearch.pipeline.search import Rows, Scores, Searcher
from embedsearch.recommend.strategies import NEIGHBOURS
from embedsearch.types import Progress
from embedsearch.vectors import Matrix

SUFFIX = ".neighbours"  # after the whole name of the index file, with which it comes and goes
_SPARE = 12  # so many of a row's neighbours may be deleted before it has to be searched again
WIDTH = NEIGHBOURS + _SPARE
_AT_ONCE = 2**14  # rows that are searched in one go


class SavedLists:
    """What the index file answers for each of its own positions, that position left out.

    It belongs to the index file, not to a state of the store: what came and went since is told by the live index, as
    in any search. positions: int32 n x WIDTH, -1 at the end. scores: float32 n x WIDTH.
    """

    def __init__(self, searcher: Searcher, positions: NDArray[np.int32], scores: Scores) -> None:
        self._index = searcher.index
        self._positions = positions
        self._scores = scores

    @classmethod
    def open(cls, searcher: Searcher) -> Self | None:
        """None where the committed generation has none. Raises DamagedIndexError where it cannot be read."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        name = searcher.manifest.index.file + SUFFIX
        if name not in searcher.manifest.files:
            return None
        path = searcher.root / name
        try:
            parts = load_file(path)
            positions, scores = parts["positions"], parts["scores"]
        except (OSError, KeyError, SafetensorError) as error:
            raise DamagedIndexError(f"{path} cannot be read: {error}") from error
        if positions.shape != (len(searcher.main), WIDTH) or scores.shape != positions.shape:
            raise DamagedIndexError(f"{path} is damaged: it holds {positions.shape}, not {(len(searcher.main), WIDTH)}")
        return cls(searcher, positions, scores)

    def of(self, rows: Rows, x: Matrix) -> tuple[Rows, Scores, NDArray[np.bool_]]:
        """The NEIGHBOURS of each of `rows`, with scores, and for which of them they are known: those that have been
        there since the index was built, and have not lost too many neighbours. x: their vectors."""
        if not isinstance(self._index, LiveIndex):
            found = self._positions[rows, :NEIGHBOURS].astype(np.int64)
            return found, self._scores[rows, :NEIGHBOURS], np.ones(len(rows), np.bool_)
        places = self._index.positions_of(rows)
        there = np.flatnonzero(places >= 0)
        found = np.full((len(rows), NEIGHBOURS), -1, np.int64)
        scores = np.full((len(rows), NEIGHBOURS), np.nan, np.float32)
        is_known = np.zeros(len(rows), np.bool_)
        if not len(there):
            return found, scores, is_known
        held = self._positions[places[there]].astype(np.int64)
        scored, merged, n_alive = self._index.completed(x[there], NEIGHBOURS, self._scores[places[there]], held)
        whole = held[:, -1] < 0  # it names all there are
        found[there], scores[there] = merged, scored
        is_known[there] = (n_alive >= NEIGHBOURS) | whole
        return found, scores, is_known


def save_neighbours(root: Path, progress: Progress) -> int:
    """Searches the neighbours of every row and commits them beside the index; how many rows there are.

    Nothing is done where they are there. Raises UsageError where the index has been changed since it was built,
    LockedError when another process writes it.
    """
    from safetensors.numpy import save_file

    from embedsearch.pipeline.recommend.part import Part

    with changing(root) as change:
        manifest, layout = change.manifest, change.layout
        path = root / (manifest.index.file + SUFFIX)
        if path.name in manifest.files:
            return manifest.n_items
        if not manifest.is_folded:
            raise UsageError(f"{root} has been changed since its index was built; optimize it first")
        part = Part(Searcher.open(root))
        positions = np.full((part.n, WIDTH), -1, np.int32)
        scores = np.full((part.n, WIDTH), np.nan, np.float32)
        progress.stage("neighbours", part.n)
        for first in range(0, part.n, _AT_ONCE):
            rows = np.arange(first, min(first + _AT_ONCE, part.n))
            positions[rows], scores[rows] = part.lists.searched(rows, part.vectors(rows), WIDTH, None)
            progress.advance(len(rows))
        temporary = path.with_name(path.name + ".tmp")
        save_file({"positions": positions, "scores": scores}, temporary)
        flush(root, [temporary])
        temporary.replace(path)
        flush(root, [path])
        write_manifest(
            layout,
            replace(
                manifest,
                generation=manifest.generation + 1,
                files={**manifest.files, **record_files(root, [path])},
                created=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
        )
    return part.n
