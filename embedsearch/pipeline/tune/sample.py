"""The items that are tuned on, and what is right for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import SourceError, UsageError, counted
from embedsearch.evaluate.judgements import Labels, Pairs, folder_label
from embedsearch.pipeline.judging.judge import By
from embedsearch.sources import ItemSource
from embedsearch.types import Item, Skip

Rows = NDArray[np.int64]
MOST_OF_A_LABEL = 5  # items of one label that are drawn before a second round begins
SEED = 0


@dataclass(frozen=True, slots=True)
class Truth:
    """What is right for m items. relevant: bool m x m, symmetric, never of an item with itself. groups: int64 m;
    items of different groups are never relevant to each other. left_out: bool m x m, what is no answer: the item
    itself, and what is relevant but of another group."""

    relevant: NDArray[np.bool_]
    groups: Rows
    left_out: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.groups)

    def some(self, kept: Rows) -> Truth:
        square = np.ix_(kept, kept)
        return Truth(self.relevant[square], self.groups[kept], self.left_out[square])

    def within(self, groups: Rows) -> Truth:
        """With smaller groups: what was relevant beyond one is left out."""
        inside = groups[:, None] == groups[None, :]
        return Truth(self.relevant & inside, groups, self.left_out | (self.relevant & ~inside))

    @classmethod
    def of_groups(cls, groups: Rows) -> Truth:
        """All items of one group are right for each other."""
        same = groups[:, None] == groups[None, :]
        itself = np.eye(len(groups), dtype=bool)
        return cls(same & ~itself, groups, itself)


@dataclass(slots=True)
class Sample:
    """items: drawn, those that are judged first. truth: of the judged ones, None without labels. n_source: items there
    are. notes: what was left out, and why."""

    items: list[Item]
    truth: Truth | None
    n_source: int
    notes: list[str] = field(default_factory=list)

    @property
    def n_judged(self) -> int:
        return 0 if self.truth is None else len(self.truth)


def draw(source: ItemSource, by: By | None, most: int) -> Sample:
    """At most `most` items of a source, with a seed; judged ones first, so that as many as can be have another that
    is relevant to them. Raises UsageError for labels of which no item has one, SourceError for an empty source."""
    items: dict[str, Item] = {}
    n_skipped = 0
    for entry in source:
        if isinstance(entry, Skip) or entry.id in items:
            n_skipped += 1
        else:
            items[entry.id] = entry
    if not items:
        raise SourceError(f"{source.location} holds no {source.modality.value}s to tune on")
    notes = [f"{counted(n_skipped, 'input')} of the source left out: no item, or an id that an earlier one has"]
    notes = notes if n_skipped else []
    rng = np.random.default_rng(SEED)
    if by is None:
        names = list(items)
        drawn = np.sort(rng.permutation(len(names))[:most])
        return Sample([items[names[at]] for at in drawn], None, len(items), notes)
    judged, relevant = _judged(items, by, most, rng, notes)
    others = [item_id for item_id in items if item_id not in relevant]
    n_others = min(most - len(judged), len(others))
    chosen = np.sort(rng.permutation(len(others))[:n_others])
    kept = [*judged, *(others[at] for at in chosen)]
    return Sample([items[item_id] for item_id in kept], _truth(judged, relevant), len(items), notes)


Relevant = Mapping[str, set[str] | str]


def _judged(
    items: Mapping[str, Item], by: By, most: int, rng: np.random.Generator, notes: list[str]
) -> tuple[list[str], Relevant]:
    """Ids that are judged and drawn; and of all judged ids the label, or the ids that are relevant."""
    if isinstance(by.judgements, Pairs):
        near: dict[str, set[str]] = {}
        n_gone = 0
        for query, graded in by.judgements.of.items():
            for item_id, grade in graded.items():
                if query not in items or item_id not in items:
                    n_gone += 1
                elif grade > 0 and item_id != query:
                    near.setdefault(query, set()).add(item_id)
                    near.setdefault(item_id, set()).add(query)
        if n_gone:
            notes.append(f"{counted(n_gone, 'pair')} with an id that is not in the source left out")
        groups = _components(near)
        ids = _in_rounds(groups, most, rng)
        _require(ids, "no pair of the labels is of two items of the source")
        return ids, near
    label_of = _label_of(by)
    labels = {item_id: label for item_id, item in items.items() if (label := label_of(item)) is not None}
    if isinstance(by.judgements, Labels) and (n_gone := len(set(by.judgements.of) - set(items))):
        some = sorted(set(by.judgements.of) - set(items))[:3]
        notes.append(f"{counted(n_gone, 'labelled id')} not in the source (such as {', '.join(some)})")
        _require(
            list(labels),
            f"none of the {counted(len(by.judgements.of), 'labelled id')} is in the source ({', '.join(some)})",
        )
    ids = _in_rounds(labels, most, rng)
    counts: dict[str, int] = {}
    for item_id in ids:
        counts[labels[item_id]] = counts.get(labels[item_id], 0) + 1
    if n_alone := sum(count == 1 for count in counts.values()):
        notes.append(f"{counted(n_alone, 'drawn item')} without another of the same label; such only answer, wrongly")
    _require(
        [item_id for item_id in ids if counts[labels[item_id]] > 1],
        "no two drawn items have the same label, so nothing is right; label more items",
    )
    return ids, labels


def _label_of(by: By) -> Callable[[Item], str | None]:
    if by.kind == "folders":
        return lambda item: folder_label(item.id)
    if by.kind == "column":

        def of_column(item: Item) -> str | None:
            if by.column not in item.metadata:
                names = ", ".join(sorted(item.metadata)) or "(none)"
                raise UsageError(f"label column {by.column!r} is not in the source; its columns: {names}")
            value = item.metadata[by.column]
            return None if value is None or value == "" else str(value)

        return of_column
    assert isinstance(by.judgements, Labels)
    given = by.judgements.of
    return lambda item: given.get(item.id)


def _require(ids: Sequence[str], otherwise: str) -> None:
    if not ids:
        raise UsageError(otherwise)


def _in_rounds(groups: Mapping[str, str], most: int, rng: np.random.Generator) -> list[str]:
    """At most `most` ids: MOST_OF_A_LABEL of each group, groups in random order, then another round."""
    of: dict[str, list[str]] = {}
    for item_id, group in groups.items():
        of.setdefault(group, []).append(item_id)
    ranked: list[tuple[int, int, int, str]] = []
    order = rng.permutation(len(of))
    for place, members in zip(order.tolist(), of.values(), strict=True):
        for rank, at in enumerate(rng.permutation(len(members)).tolist()):
            ranked.append((rank // MOST_OF_A_LABEL, place, rank, members[at]))
    return [item_id for *_, item_id in sorted(ranked)[:most]]


def _components(near: Mapping[str, set[str]]) -> dict[str, str]:
    """For each id one of those that pairs lead to from it."""
    found: dict[str, str] = {}
    for start in near:
        if start in found:
            continue
        waiting = [start]
        while waiting:
            item_id = waiting.pop()
            if item_id not in found:
                found[item_id] = start
                waiting += near[item_id]
    return found


def _truth(ids: Sequence[str], relevant: Relevant) -> Truth:
    if not any(isinstance(relevant[item_id], set) for item_id in ids):
        return Truth.of_groups(_numbers(str(relevant[item_id]) for item_id in ids))
    place = {item_id: at for at, item_id in enumerate(ids)}
    matrix = np.zeros((len(ids), len(ids)), np.bool_)
    for item_id in ids:
        for other in relevant[item_id]:
            if other in place:
                matrix[place[item_id], place[other]] = True
    near = {item_id: {other for other in relevant[item_id] if other in place} for item_id in ids}
    components = _components(near)
    return Truth(matrix, _numbers(components[item_id] for item_id in ids), np.eye(len(ids), dtype=bool))


def _numbers(names: Iterable[str]) -> Rows:
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)
