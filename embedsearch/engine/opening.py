"""Opening an index; kept apart from building, whose imports a query need not pay for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from embedsearch.engine.elsewhere import Elsewhere
from embedsearch.engine.index import Index
from embedsearch.pipeline.search import Searcher


def open(
    path: str | Path,
    *,
    weights: str | Path | None = None,
    backbone: Any = None,
    preprocess: str | Callable[[Any], Any] | None = None,
    verify: bool = False,
) -> Index:
    """The index in the folder `path`.

    weights: where the network's weights lie now, when they have moved; they must be the same, which is
    checked by their hash. backbone, preprocess: the network and function that were given in Python when the
    index was built, or names of the code that makes them now. verify: compares every file with what was
    committed; without it, stores above 1 GiB are compared by size only. Raises ArtifactError when it is no
    complete index, DamagedIndexError when it is damaged.
    """
    searcher = Searcher.open(Path(path), verify_everything=verify)
    elsewhere = Elsewhere(None if weights is None else str(weights), backbone, preprocess)
    return Index(searcher, elsewhere)
