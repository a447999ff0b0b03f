"""Checks of what is asked for of duplicates."""

from __future__ import annotations

from embedsearch.engine.asking import Wanted
from embedsearch.errors import UsageError
from embedsearch.groups.nearness import Nearness
from embedsearch.pipeline.duplicates.finding import find_duplicates
from embedsearch.pipeline.duplicates.groups import Duplicates
from embedsearch.pipeline.search import Searcher
from embedsearch.types import Metric, NoProgress, Progress

# of cosine, where nothing else is asked for; other metrics have no score that means the same for all data
MIN_SCORE = 0.95


def duplicates(
    searcher: Searcher,
    min_score: float | None,
    max_distance: float | None,
    where: str | None,
    strict: bool,
    exact: bool | None,
    progress: Progress | None,
) -> Duplicates:
    """See `Index.duplicates`."""
    metric = searcher.manifest.recipe.metric
    limit = Wanted(min_score=min_score, max_distance=max_distance).limit(metric)
    if limit is None:
        if metric is not Metric.COSINE:
            name = "min_score" if metric.higher_is_better else "max_distance"
            raise UsageError(f"give {name}: scores of {metric} have no limit that suits all data")
        limit = MIN_SCORE
    if metric is Metric.COSINE and not -1 <= limit <= 1:
        raise UsageError(f"min_score is {limit:g}; a cosine lies between -1 and 1")
    if metric is Metric.L2 and limit < 0:
        raise UsageError(f"max_distance is {limit:g}; no squared distance lies below 0")
    return find_duplicates(searcher, Nearness(metric, float(limit)), where, strict, exact, progress or NoProgress())
