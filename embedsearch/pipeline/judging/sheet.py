"""The worst confusions as one picture: a query, the wrong answer it got first, and the best right one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedsearch.evaluate.judged import Confusion
from embedsearch.pipeline.judging.queries import Queries, shown_rows
from embedsearch.pipeline.search import Searcher
from embedsearch.pipeline.sheet import cell_of
from embedsearch.presenters.sheet import draw_sheet

N_DRAWN = 20


def save_confusions(
    searcher: Searcher, queries: Queries, confusions: Sequence[Confusion], path: Path, label_column: str | None
) -> None:
    """Draws the first N_DRAWN of `confusions`, a row each; a picture with one sentence where there are none.

    label_column: is not what a text shows of itself, though it may be longer.
    """
    few = confusions[:N_DRAWN]
    modality = searcher.manifest.recipe.modality
    if not few:
        draw_sheet([[cell_of("", modality, "no first answer is wrong")]], path)
        return
    place = {query: at for at, query in enumerate(queries.ids)}
    asked = queries.shown(np.array([place[each.query] for each in few], np.int64), label_column)
    wrong = shown_rows(searcher, searcher.rows_of([each.wrong for each in few]), label_column)
    right = shown_rows(searcher, searcher.rows_of([each.right for each in few]), label_column)
    rows = []
    for each, query, first, best in zip(few, asked, wrong, right, strict=True):
        times = f", {each.n} x" if each.n > 1 else ""
        rows.append(
            [
                cell_of(query, modality, "query", each.query_label or each.query),
                cell_of(first, modality, f"1. {each.wrong_score:.4f} wrong{times}", each.wrong_label or each.wrong),
                cell_of(best, modality, f"{each.place}. {each.right_score:.4f} right", each.query_label or each.right),
            ]
        )
    draw_sheet(rows, path)
