"""What an evaluation against labels or pairs has found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import counted
from embedsearch.evaluate.bootstrap import Figure, bootstrapped

Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One label: how many items of the database and how many queries have it, means over these queries by measure, and
    the label that its queries took it for most often ("" for never)."""

    label: str
    n_items: int
    n_queries: int
    means: dict[str, float]
    taken_for: str
    n_taken: int


@dataclass(frozen=True, slots=True)
class Confusion:
    """A query whose first answer is wrong by the exact ranking: that answer, and the best right one, with labels where
    there are any. place: of the right one, counted from 1. n: queries of this label with a first answer of that one."""

    query: str
    query_label: str
    wrong: str
    wrong_label: str
    wrong_score: float
    right: str
    right_score: float
    place: int
    n: int


@dataclass(frozen=True, slots=True)
class Judged:
    """How good an index's answers are.

    exact: measures of the exact ranking of all items, so of the vectors; found: of the k that the index itself finds,
    which is what a user sees. per_query: by "exact" and "found" the values of each of query_ids, for paired
    comparisons. labels: of the queries, None for pairs. notes: all that was left out, and why, and how queries
    were changed.
    """

    k: int
    n_items: int
    query_ids: list[str]
    labels: list[str] | None
    exact: dict[str, Figure]
    found: dict[str, Figure]
    per_query: dict[str, Values]
    classes: list[ClassFigures]
    confusions: list[Confusion]
    notes: list[str]

    @property
    def lost(self) -> dict[str, Figure]:
        """What the index loses of each measure: exact - found, of the same queries."""
        exact, found = self.per_query["exact"], self.per_query["found"]
        return {name: bootstrapped(exact[name] - values) for name, values in found.items()}

    def __str__(self) -> str:
        wide = max(10, *map(len, self.exact))
        lines = [
            f"{len(self.query_ids):,} {'query' if len(self.query_ids) == 1 else 'queries'} "
            f"among {counted(self.n_items, 'item')}",
            f"{'':{wide}}  {'exact (the vectors)':26}  {'found (the index)':26}  lost",
        ]
        for name, figure in self.exact.items():
            found = self.found.get(name)
            told = "" if found is None else f"  {found!s:26}  {self.lost[name].mean:z.4f}"
            lines.append(f"{name:{wide}}  {figure!s:26}{told}".rstrip())
        return "\n".join([*lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as the command prints it with --json."""

        def figures(of: dict[str, Figure]) -> dict[str, Any]:
            return {name: {"mean": f.mean, "low": f.low, "high": f.high} for name, f in of.items()}

        return {
            "k": self.k,
            "n_queries": len(self.query_ids),
            "n_items": self.n_items,
            "exact": figures(self.exact),
            "found": figures(self.found),
            "lost": figures(self.lost),
            "classes": [{**_fields(each), **each.means} for each in self.classes],
            "confusions": [_fields(each) for each in self.confusions],
            "notes": self.notes,
        }


def _fields(each: Any) -> dict[str, Any]:
    return {name: getattr(each, name) for name in type(each).__slots__ if name != "means"}


def class_figures(
    labels: Sequence[str], n_items: Counter[str], values: Values, taken_for: Sequence[str]
) -> list[ClassFigures]:
    """A row for each label that has queries, the worst first. taken_for: of each query the label of its first answer
    where that is wrong, else ""."""
    of = np.array(labels, object)
    found = []
    for label in sorted(set(labels)):
        mine = np.flatnonzero(of == label)
        wrong = Counter(taken_for[at] for at in mine.tolist() if taken_for[at])
        most, n = min(wrong.items(), key=lambda pair: (-pair[1], pair[0])) if wrong else ("", 0)
        means = {name: float(value[mine].mean()) for name, value in values.items()}
        found.append(ClassFigures(label, n_items[label], len(mine), means, most, n))
    return sorted(found, key=lambda each: (next(iter(each.means.values())), each.label))


def worst(confusions: Sequence[Confusion], n: int | None = None) -> list[Confusion]:
    """One for each pair of labels, the one whose wrong answer lies farthest before the right one; the pairs that happen
    most often first. Without labels, all by that distance."""
    counts = Counter((each.query_label, each.wrong_label) for each in confusions if each.query_label)
    order = sorted(confusions, key=lambda each: -abs(each.wrong_score - each.right_score))
    kept: dict[Any, Confusion] = {}
    for each in order:
        pair = (each.query_label, each.wrong_label)
        if not each.query_label:
            kept[each.query] = each
        elif pair not in kept:
            kept[pair] = Confusion(**{**_fields(each), "n": counts[pair]})
    return sorted(kept.values(), key=lambda each: (-each.n, -abs(each.wrong_score - each.right_score)))[:n]


def figures_of(values: Values) -> dict[str, Figure]:
    """Means with intervals. Raises ValueError where a value is NaN: such queries must be left out before, and told."""
    for name, each in values.items():
        if any(map(math.isnan, each)):
            raise ValueError(f"{name} holds NaN")
    return {name: bootstrapped(each) for name, each in values.items()}
