"""From queries and judgements to what is known of an index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import UsageError, counted
from embedsearch.evaluate.judged import Confusion, Judged, class_figures, figures_of, worst
from embedsearch.evaluate.judgements import ByLabel, ByPair, Judgements, Labels, Pairs, Relevance, folder_label
from embedsearch.pipeline.expansion import expanded, joined, require_expandable
from embedsearch.pipeline.judging.exact import Firsts, best_exactly, rank_exactly
from embedsearch.pipeline.judging.found import rank_found
from embedsearch.pipeline.judging.queries import Queries
from embedsearch.pipeline.judging.reading import column_labels
from embedsearch.pipeline.search import Rows, Searcher
from embedsearch.types import Progress
from embedsearch.vectors import l2_normalize

SAMPLE = 10_000  # queries that are asked, unless more are wanted
_NAMED = 3
_SEED = 0

Names: TypeAlias = list[str | None]


@dataclass(frozen=True, slots=True)
class By:
    """Where labels come from: judgements, a metadata column, or the folders of ids."""

    kind: Literal["judgements", "column", "folders"]
    judgements: Judgements | None = None
    column: str = ""


@dataclass(slots=True)
class _Task:
    """kept: the queries that can be judged. labels: of them; item_labels: of each row. Both None for pairs."""

    kept: Rows
    relevance: Relevance
    answers: NDArray[np.bool_]
    labels: list[str] | None
    item_labels: Names | None
    notes: list[str] = field(default_factory=list)


def judge(
    searcher: Searcher,
    queries: Queries,
    by: By,
    k: int,
    where: str | None,
    sample: int | None,
    expand: int,
    progress: Progress,
) -> Judged:
    """See `Index.evaluate`. Raises UsageError where no query can be judged, with the reasons."""
    require_expandable(searcher.manifest.recipe.metric, expand)
    allowed = searcher.allowed(where) if where else np.ones(len(searcher.store), np.bool_)
    if where and not allowed.any():
        raise UsageError(f"no item of {searcher.root} meets {where!r} to be an answer")
    pairs = by.judgements if isinstance(by.judgements, Pairs) else None
    task = _of_labels(searcher, queries, by, allowed) if pairs is None else _of_pairs(searcher, queries, pairs, allowed)
    task.notes[:0] = queries.notes
    if not len(task.kept):
        raise UsageError(f"no query can be judged: {'; '.join(task.notes) or 'there are none'}")
    if sample is not None and len(task.kept) > sample:
        chosen = np.sort(np.random.default_rng(_SEED).choice(len(task.kept), sample, replace=False))
        task.notes.append(f"{sample:,} of {len(task.kept):,} queries were drawn, with a seed (--sample asks more)")
        task.kept, task.relevance = task.kept[chosen], task.relevance.some(chosen)
        task.labels = None if task.labels is None else [task.labels[at] for at in chosen]
    own, x = queries.own[task.kept], searcher.as_asked(queries.vectors_at(task.kept))
    ids = [queries.ids[at] for at in task.kept]
    if (own < 0).all():
        task.notes += _themselves(searcher, ids, x)
    exact_x = found_x = x
    if expand:
        task.notes.append(f"each query was joined with its {counted(expand, 'best answer')} (--expand)")
        among = best_exactly(searcher.store, x, own, task.answers, expand, progress)
        exact_x = joined(x, among, searcher.store.vectors_at)
        found_x = expanded(searcher, x, expand, allowed=task.answers, own=own)
    exactly, firsts = rank_exactly(
        searcher.store, searcher.manifest.recipe.metric, exact_x, own, task.relevance, task.answers, k, progress
    )
    exact = {
        "P@1": exactly.precision_at_1,
        f"recall@{k}": exactly.recall_at_k,
        "mAP": exactly.average_precision,
        f"nDCG@{k}": exactly.ndcg_at_k,
        "MRR": exactly.reciprocal_rank,
    }
    found = rank_found(searcher, found_x, own, task.relevance, task.answers, k)
    wrong_labels = _wrong_labels(task, firsts)
    classes = []
    if task.labels is not None and task.item_labels is not None:
        held = Counter(task.item_labels[row] or "" for row in np.flatnonzero(task.answers))
        classes = class_figures(
            task.labels, held, {name: exact[name] for name in ("P@1", f"recall@{k}", "mAP")}, wrong_labels
        )
    return Judged(
        k,
        int(task.answers.sum()),
        ids,
        task.labels,
        figures_of(exact),
        figures_of(found),
        {"exact": exact, "found": found},
        classes,
        worst(_confusions(searcher, ids, task, firsts, wrong_labels)),
        task.notes,
    )


def _of_labels(searcher: Searcher, queries: Queries, by: By, allowed: NDArray[np.bool_]) -> _Task:
    ids = [str(item_id) for item_id in searcher.store.ids.to_pylist()]
    items, asked, notes = _labels_of(searcher, queries, by, ids)
    labelled = np.array([label is not None for label in items], np.bool_)
    if n := int((allowed & ~labelled).sum()):
        some = [ids[row] for row in np.flatnonzero(allowed & ~labelled)[:_NAMED]]
        notes.append(f"{counted(n, 'item')} without a label left out of all rankings{_such_as(some)}")
    answers = allowed & labelled
    numbers = {label: at for at, label in enumerate(sorted({label for label in [*items, *asked] if label is not None}))}
    codes = np.array([-1 if label is None else numbers[label] for label in items], np.int64)
    mine = np.array([-1 if label is None else numbers[label] for label in asked], np.int64)
    if n := int((mine < 0).sum()):
        some = [queries.ids[at] for at in np.flatnonzero(mine < 0)[:_NAMED]]
        notes.append(f"{counted_queries(n)} without a label left out{_such_as(some)}")
    kept = np.flatnonzero(mine >= 0)
    relevance = ByLabel(mine[kept], np.where(answers, codes, -1), queries.own[kept])
    has = relevance.n_relevant() > 0
    if n := int((~has).sum()):
        lonely = sorted({str(asked[at]) for at in kept[~has]})
        notes.append(
            f"{counted_queries(n)} left out, whose label no other item has: {counted(len(lonely), 'label')}"
            f"{_such_as(lonely[:_NAMED])}"
        )
    relevance, kept = relevance.some(np.flatnonzero(has)), kept[has]
    return _Task(kept, relevance, answers, [str(asked[at]) for at in kept], items, notes)


def _labels_of(searcher: Searcher, queries: Queries, by: By, ids: list[str]) -> tuple[Names, Names, list[str]]:
    """The labels of all items and of all queries."""
    if by.kind == "column":
        return column_labels(searcher.store, by.column, searcher.root), queries.column(by.column), []
    if by.kind == "folders":
        return [folder_label(item_id) for item_id in ids], [folder_label(query) for query in queries.ids], []
    assert isinstance(by.judgements, Labels)
    given, notes = by.judgements.of, []
    strange = list(dict.fromkeys(given.keys() - set(ids) - set(queries.ids)))
    if strange:
        notes.append(f"{counted(len(strange), 'labelled id')} not in the index{_such_as(sorted(strange)[:_NAMED])}")
        forms = {normalize("NFC", item_id) for item_id in ids}
        if n := sum(normalize("NFC", item_id) in forms for item_id in strange):
            notes[-1] += f"; {n:,} of them are there in another Unicode form (NFC or NFD)"
    if by.judgements.n_empty:
        notes.append(f"{counted(by.judgements.n_empty, 'id')} given with an empty label")
    return [given.get(item_id) for item_id in ids], [given.get(query) for query in queries.ids], notes


def _of_pairs(searcher: Searcher, queries: Queries, pairs: Pairs, allowed: NDArray[np.bool_]) -> _Task:
    place = {query: at for at, query in enumerate(queries.ids)}
    notes = []
    if strange := sorted(pairs.of.keys() - place.keys()):
        notes.append(f"{counted_queries(len(strange))} judged, but not among those asked{_such_as(strange[:_NAMED])}")
    if pairs.n_negative:
        notes.append(f"{counted(pairs.n_negative, 'pair')} of grade 0 or less: not relevant")
    asked = [query for query in queries.ids if query in pairs.of]
    if len(asked) < len(queries.ids):
        some = [query for query in queries.ids if query not in pairs.of][:_NAMED]
        notes.append(f"{counted_queries(len(queries.ids) - len(asked))} without a judgement left out{_such_as(some)}")
    named = list(dict.fromkeys(item_id for query in asked for item_id in pairs.of[query]))
    row_of = dict(zip(named, searcher.store.rows_of(named).tolist(), strict=True)) if named else {}
    gone = sorted(item_id for item_id, row in row_of.items() if row < 0)
    if gone:
        notes.append(f"{counted(len(gone), 'judged id')} not in the index, and not counted{_such_as(gone[:_NAMED])}")
    kept, rows, values, n_bare, n_unmet, n_own = [], [], [], 0, 0, 0
    for query in asked:
        at = place[query]
        good = {
            row_of[item_id]: grade for item_id, grade in pairs.of[query].items() if grade > 0 and row_of[item_id] >= 0
        }
        n_own += good.pop(int(queries.own[at]), None) is not None
        n_unmet += sum(not allowed[row] for row in good)
        good = {row: grade for row, grade in good.items() if allowed[row]}
        if not good:
            n_bare += 1
            continue
        kept.append(at)
        rows.append(np.array(list(good), np.int64))
        values.append(np.array(list(good.values()), np.float64))
    if n_own:
        notes.append(f"{counted(n_own, 'pair')} of an item with itself not counted")
    if n_unmet:
        notes.append(f"{counted(n_unmet, 'relevant pair')} not counted, whose item does not meet the condition")
    if n_bare:
        notes.append(f"{counted_queries(n_bare)} left out, to which no item of the index is relevant")
    relevance = ByPair(rows, values, len(searcher.store))
    return _Task(np.array(kept, np.int64), relevance, allowed, None, None, notes)


def _themselves(searcher: Searcher, ids: Sequence[str], x: NDArray[np.float32]) -> list[str]:
    """A note where queries are items of the index, and so find themselves."""
    rows = searcher.store.rows_of(ids)
    at = np.flatnonzero(rows >= 0)
    stored = searcher.store.vectors_at(rows[at])
    same = int((np.abs(l2_normalize(stored) - l2_normalize(x[at])).max(axis=1, initial=0) < 1e-3).sum())
    if not same:
        return []
    return [
        f"{counted_queries(same)} in the index with the same id and vector, and may find themselves, which flatters; "
        "without queries of their own, items are asked and each is left out of its own answers"
    ]


def _wrong_labels(task: _Task, firsts: Firsts) -> list[str]:
    """The label of each first answer that is wrong, else ""."""
    labels = task.item_labels
    if labels is None:
        return [""] * len(task.kept)
    return [(labels[row] or "") if place > 1 else "" for row, place in zip(firsts.wrong, firsts.place, strict=True)]


def _confusions(
    searcher: Searcher, ids: Sequence[str], task: _Task, firsts: Firsts, wrong_labels: Sequence[str]
) -> list[Confusion]:
    at = np.flatnonzero(firsts.place > 1).tolist()
    if not len(at):
        return []
    wrong, right = searcher.store.ids_at(firsts.wrong[at]), searcher.store.ids_at(firsts.right[at])
    return [
        Confusion(
            ids[q],
            task.labels[q] if task.labels is not None else "",
            str(wrong[i]),
            wrong_labels[q],
            float(firsts.wrong_score[q]),
            str(right[i]),
            float(firsts.right_score[q]),
            int(firsts.place[q]),
            1,
        )
        for i, q in enumerate(at)
    ]


def counted_queries(n: int) -> str:
    return f"{n:,} {'query' if n == 1 else 'queries'}"


def _such_as(names: Sequence[str]) -> str:
    return f" (such as {', '.join(names)})" if names else ""
