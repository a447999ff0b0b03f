"""What is right for whom: labels of items, or pairs of query and item with a grade."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import UsageError

Rows = NDArray[np.int64]
_ONE = "an item has one label (for several, give pairs: query,id,grade)"
COLUMNS = "the columns id,label (the same label is relevant), or query,id,grade"


@dataclass(frozen=True, slots=True)
class Labels:
    """The label of each id; items of one label are relevant to each other. n_empty: ids given without a label."""

    of: Mapping[str, str]
    n_empty: int = 0


@dataclass(frozen=True, slots=True)
class Pairs:
    """For each query id the graded items, above 0 where relevant; what is not named is not relevant. n_negative: pairs
    whose grade is 0 or less, which are not relevant either."""

    of: Mapping[str, Mapping[str, float]]
    n_negative: int = 0


Judgements: TypeAlias = Labels | Pairs


def judgements_of(rows: Iterable[Mapping[str, Any]], columns: Iterable[str], origin: str) -> Judgements:
    """Labels of rows with `id` and `label`, or pairs of rows with `query`, `id` and perhaps `grade` (default 1).

    Raises UsageError for other columns, no rows, an id that is missing, one that has two labels, a pair that has two
    grades, or a grade that is no number.
    """
    names = list(columns)
    if {"query", "id"} <= set(names):
        return _pairs(rows, origin)
    if {"id", "label"} <= set(names):
        return _labels(rows, origin)
    spelt = ", ".join(map(repr, names)) or "(none)"  # a space or a capital letter is to be seen
    apart = "; a CSV file has commas between them" if len(names) == 1 and {";", "\t", "|"} & set(names[0]) else ""
    raise UsageError(f"{origin} has the columns {spelt}; labels need {COLUMNS}{apart}")


def _labels(rows: Iterable[Mapping[str, Any]], origin: str) -> Labels:
    found: dict[str, str] = {}
    empty: set[str] = set()
    for number, row in enumerate(rows, start=1):
        item_id, label = _named(row["id"], "id", origin, number), row["label"]
        if is_nothing(label):
            empty.add(item_id)
        elif isinstance(label, list | dict):
            raise UsageError(f"{origin}, row {number}: {item_id!r} is labelled {label!r}; {_ONE}")
        elif found.setdefault(item_id, str(label)) != str(label):
            raise UsageError(
                f"{origin}, row {number}: {item_id!r} is labelled {label!r}, and {found[item_id]!r} before; {_ONE}"
            )
    if not found:
        raise UsageError(f"{origin} labels nothing; it needs rows of {COLUMNS}")
    return Labels(found, len(empty - found.keys()))


def _pairs(rows: Iterable[Mapping[str, Any]], origin: str) -> Pairs:
    found: dict[str, dict[str, float]] = {}
    for number, row in enumerate(rows, start=1):
        query, item_id = (_named(row[name], name, origin, number) for name in ("query", "id"))
        grade = _grade(row.get("grade", 1), origin, number)
        of_query = found.setdefault(query, {})
        if of_query.setdefault(item_id, grade) != grade:
            raise UsageError(f"{origin}, row {number}: {query!r} with {item_id!r} has two grades")
    if not found:
        raise UsageError(f"{origin} judges nothing; it needs rows of {COLUMNS}")
    return Pairs(found, sum(grade <= 0 for of_query in found.values() for grade in of_query.values()))


def _named(value: Any, what: str, origin: str, number: int) -> str:
    if is_nothing(value):
        raise UsageError(f"{origin}, row {number}: {what} is empty")
    return str(value)


def _grade(value: Any, origin: str, number: int) -> float:
    try:
        grade = float(value)
    except (TypeError, ValueError):
        grade = math.nan
    if not math.isfinite(grade):
        raise UsageError(f"{origin}, row {number}: the grade {value!r} is no number")
    return grade


def is_nothing(value: Any) -> bool:
    """Whether a cell tells nothing: missing, NaN, or a text without a sign that can be seen."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float | np.floating) and math.isnan(value))


def folder_label(item_id: str) -> str | None:
    """The name of the folder that an id lies in, `cat` for `pets/cat/1.jpg`; None where it lies in none."""
    return item_id.rsplit("/", 2)[-2] or None if "/" in item_id else None


@dataclass(frozen=True, slots=True)
class ByLabel:
    """Relevance of n items to m queries. queries: int64 m, a number for each label. items: int64 n, -1 for what is no
    answer. own: int64 m, the item that each query is, -1 for none; no item is relevant to itself."""

    queries: Rows
    items: Rows
    own: Rows

    def grades(self, some: Rows) -> NDArray[Any]:
        """bool len(some) x n, of some of the queries."""
        grades: NDArray[Any] = self.queries[some][:, None] == self.items[None, :]
        own = self.own[some]
        grades[np.flatnonzero(own >= 0), own[own >= 0]] = False
        return grades

    def n_relevant(self) -> Rows:
        """How many items are relevant to each query."""
        counts = np.bincount(self.items[self.items >= 0], minlength=int(self.queries.max(initial=-1)) + 1)
        is_own = (self.own >= 0) & (self.items[self.own] == self.queries) if len(self.items) else np.bool_(False)
        return np.asarray(counts[self.queries] - is_own, np.int64)

    def ideal(self, k: int) -> NDArray[np.float64]:
        """The best gains that k places can have, m x k."""
        return np.asarray(np.arange(k) < self.n_relevant()[:, None], np.float64)

    def some(self, kept: Rows) -> ByLabel:
        return ByLabel(self.queries[kept], self.items, self.own[kept])


@dataclass(frozen=True, slots=True)
class ByPair:
    """The same of graded pairs. rows, values: for each query its relevant items (int64) and grades (float64)."""

    rows: list[Rows]
    values: list[NDArray[np.float64]]
    n_items: int

    def grades(self, some: Rows) -> NDArray[Any]:
        grades = np.zeros((len(some), self.n_items))
        for at, query in enumerate(some):
            grades[at, self.rows[query]] = self.values[query]
        return grades

    def n_relevant(self) -> Rows:
        return np.array([len(rows) for rows in self.rows], np.int64)

    def ideal(self, k: int) -> NDArray[np.float64]:
        best = np.zeros((len(self.values), k))
        for at, values in enumerate(self.values):
            first = np.sort(values)[::-1][:k]
            best[at, : len(first)] = first
        return best

    def some(self, kept: Rows) -> ByPair:
        return ByPair([self.rows[at] for at in kept], [self.values[at] for at in kept], self.n_items)


Relevance: TypeAlias = ByLabel | ByPair
