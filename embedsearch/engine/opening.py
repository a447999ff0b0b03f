"""Opening an index; kept apart from building, whose imports a query need not pay for."""

from __future__ import annotations

from pathlib import Path

from embedsearch.engine.index import Index
from embedsearch.pipeline.search import Searcher


def open(path: str | Path, *, verify: bool = False) -> Index:
    """The index in the folder `path`.

    verify: compares every file with what was committed; without it, stores above 1 GiB are compared
    by size only. Raises ArtifactError when it is no complete index, DamagedIndexError when it is damaged.
    """
    return Index(Searcher.open(Path(path), verify_everything=verify))
