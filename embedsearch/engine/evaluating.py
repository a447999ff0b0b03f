"""Judging an index: from what a user names to queries and judgements."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedsearch.artifact import Layout
from embedsearch.engine.asking import as_queries
from embedsearch.engine.changing import open_as_held
from embedsearch.engine.given import whole
from embedsearch.engine.inputs import Beside
from embedsearch.errors import ContradictionError, UsageError
from embedsearch.pipeline.judging.judge import By, judge
from embedsearch.pipeline.judging.queries import Queries, array_queries, encoded_queries, stored_queries
from embedsearch.pipeline.judging.reading import given_judgements, read_judgements
from embedsearch.pipeline.judging.sheet import save_confusions
from embedsearch.pipeline.search import Searcher
from embedsearch.presenters.sheet import check_path
from embedsearch.sources import ArraySource
from embedsearch.types import Progress

if TYPE_CHECKING:
    from embedsearch.evaluate.judged import Judged
    from embedsearch.pipeline.encode import Encoder


def evaluate(
    searcher: Searcher,
    labels: Any,
    label_column: str | None,
    label_folders: bool,
    queries: Any,
    beside: Beside,
    encoder: Callable[[], Encoder],
    *,
    query_where: str | None,
    where: str | None,
    k: int,
    sample: int | None,
    expand: int,
    progress: Progress,
    sheet: Path | None,
) -> Judged:
    """See `Index.evaluate`."""
    k = whole("k", k)
    sample = None if sample is None else whole("sample", sample)
    if sheet is not None:
        check_path(sheet)
    if searcher.manifest.recipe.is_chunked:
        raise UsageError(
            f"{searcher.root} holds chunks of texts; evaluate judges whole items: chunks of one text would count as "
            "right answers to each other"
        )
    by = by_of(labels, label_column, label_folders)
    asked = _queries(searcher, queries, beside, encoder, query_where, progress)
    judged = judge(searcher, asked, by, k, where, sample, expand, progress)
    if sheet is not None:
        save_confusions(searcher, asked, judged.confusions, sheet, label_column)
    return judged


def by_of(labels: Any, label_column: str | None, label_folders: bool) -> By:
    """Where labels come from. Raises UsageError unless just one is given."""
    if sum((labels is not None, label_column is not None, label_folders)) != 1:
        raise UsageError("give one of: labels (a file), a label column, or label folders")
    if labels is not None:
        read = isinstance(labels, str | Path)
        return By("judgements", read_judgements(str(labels)) if read else given_judgements(labels))
    return By("folders") if label_column is None else By("column", column=label_column)


def _queries(
    searcher: Searcher,
    queries: Any,
    beside: Beside,
    encoder: Callable[[], Encoder],
    where: str | None,
    progress: Progress,
) -> Queries:
    if queries is None:
        return stored_queries(searcher, where, same=True)
    if isinstance(queries, str | Path) and Layout(Path(queries)).manifest.is_file():
        queries = Searcher.open(Path(queries))
    if isinstance(queries, Searcher):
        if queries.root.resolve() == searcher.root.resolve():
            return stored_queries(searcher, where, same=True)
        if not queries.encodes_as(searcher):
            raise ContradictionError(
                f"{queries.root} was built with another recipe than {searcher.root}, so their vectors cannot be "
                "compared; give the source of the queries, which is encoded as the index was"
            )
        return stored_queries(queries, where, same=False)
    if where is not None:
        raise UsageError("a condition on queries goes with items of an index, not with a source")
    source = open_as_held(searcher.root, searcher.manifest, queries, beside)
    if isinstance(source, ArraySource):
        return array_queries(source, lambda x: as_queries(searcher, x))
    return encoded_queries(source, encoder(), progress)
