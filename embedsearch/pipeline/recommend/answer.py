"""From histories to what is recommended: candidates of each index, fused, varied, and as many as were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from embedsearch.best import Rows
from embedsearch.pipeline.recommend.candidates import DEEPER, Asked, candidates, deepest_list
from embedsearch.pipeline.recommend.catalogue import Catalogue
from embedsearch.recommend.fusion import Fusion, fuse
from embedsearch.recommend.histories import Histories
from embedsearch.recommend.strategies import AUTO, STRATEGIES, chosen
from embedsearch.recommend.tally import Pool
from embedsearch.recommend.variety import select
from embedsearch.vectors import Matrix, l2_normalize

# among so many candidates for each slot, and at least so many, variety is looked for, and several indexes are fused
POOL_PER_SLOT, LEAST_POOL = 10, 100
T = TypeVar("T", bound=np.generic)
_LIST_ENTRIES = 2**24  # of the lists that are counted at once
_VECTOR_VALUES = 2**25  # of candidates' vectors that are compared at once


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to recommend; see Recommender.recommend. strategies: one for each index. most: for each column how many of
    one value."""

    k: int = 10
    strategies: Sequence[str] = (AUTO,)
    diversity: float = 0.0
    most: Mapping[str, int] = field(default_factory=dict)
    where: str | None = None

    @property
    def varied(self) -> bool:
        return self.diversity > 0 or bool(self.most)


@dataclass(frozen=True, slots=True)
class People:
    """Who is asked for. histories: items of the catalogue and, from its length on, inputs that no index holds. extra:
    for each index the vectors of those inputs, float32 n x D, NaN where it cannot read one. known: ascending keys
    user * len(catalogue) + item of what is not to be answered. notes: by user, what may not be meant as it was read."""

    histories: Histories
    extra: list[Matrix]
    known: Rows
    notes: Mapping[int, str] = field(default_factory=dict)

    def some(self, users: Rows, n_items: int) -> People:
        """Some of them, ascending."""
        if len(users) == len(self.histories):
            return self
        place = np.full(len(self.histories), -1, np.int64)
        place[users] = np.arange(len(users))
        owner = place[self.known // n_items]
        known = (owner * n_items + self.known % n_items)[owner >= 0]
        return replace(self, histories=self.histories.of_users(users), known=known)


def recommend(catalogue: Catalogue, people: People, weights: list[float], how: Fusion, wanted: Wanted) -> Pool:
    """The k best items for each of the people, in numbers of the catalogue; -1 at the end where there are fewer.

    weights: of each index. Users of whom nothing is liked get nothing.
    """
    n_users, allowed = len(people.histories), catalogue.allowed(wanted.where)
    n_allowed = len(catalogue) if allowed is None else int(allowed.sum())
    k = min(wanted.k, n_allowed)
    rows = np.full((n_users, k), -1, np.int64)
    scores = np.full((n_users, k), np.nan, np.float32)
    complete = np.ones(n_users, np.bool_)
    liked = people.histories.liked.sizes
    todo = np.flatnonzero(liked) if k else np.empty(0, np.int64)
    reach = 1
    while len(todo):
        short = []
        depth = _depth(catalogue, replace(wanted, k=k), reach)
        entry = min(deepest_list(depth, reach, pushes=bool((people.histories.weights < 0).any())), len(catalogue))
        for users in _blocks(todo, people.histories.sizes, entry):
            found = _once(
                catalogue, people.some(users, len(catalogue)), weights, how, replace(wanted, k=k), allowed, reach
            )
            rows[users], scores[users], complete[users] = found.rows, found.scores, found.complete
            short.append(users[(found.n_found < k) & ~found.complete])
        todo = np.concatenate(short)
        reach *= DEEPER
    return Pool(rows, scores, complete)


def _blocks(users: Rows, sizes: Rows, depth: int) -> list[Rows]:
    """Users, so many at once that their lists, of so many neighbours an entry, fit into memory."""
    ends = np.cumsum(sizes[users]) * depth
    return [block for block in np.split(users, np.flatnonzero(np.diff(ends // _LIST_ENTRIES)) + 1) if len(block)]


def _depth(catalogue: Catalogue, wanted: Wanted, reach: int) -> int:
    """How many candidates of each user are looked for."""
    several = wanted.varied or len(catalogue.parts) > 1
    depth = max(POOL_PER_SLOT * wanted.k, LEAST_POOL) if several else wanted.k
    return min(depth * reach, len(catalogue))


def _once(
    catalogue: Catalogue,
    people: People,
    weights: list[float],
    how: Fusion,
    wanted: Wanted,
    allowed: NDArray[np.bool_] | None,
    reach: int,
) -> Pool:
    k, blends = wanted.k, len(catalogue.parts) > 1
    depth = _depth(catalogue, wanted, reach)
    pools = [_of_part(catalogue, which, people, wanted, allowed, depth, reach) for which in range(len(catalogue.parts))]
    pool = pools[0]
    if blends:
        fused = fuse(pools, weights, len(catalogue), how=how, depth=depth)
        pool = Pool(*fused, np.logical_and.reduce([each.complete for each in pools]))
    if wanted.varied:
        pool = _varied(catalogue, pool, weights, wanted)
    return Pool(_wide(pool.rows, k, -1), _wide(pool.scores, k, np.nan), pool.complete)


def _of_part(
    catalogue: Catalogue,
    which: int,
    people: People,
    wanted: Wanted,
    allowed: NDArray[np.bool_] | None,
    depth: int,
    reach: int,
) -> Pool:
    """The candidates of one index, in numbers of the catalogue."""
    part, n_items = catalogue.parts[which], len(catalogue)
    n_users = len(people.histories)
    rows = np.full((n_users, depth), -1, np.int64)
    scores = np.full((n_users, depth), np.nan, np.float32)
    complete = np.ones(n_users, np.bool_)
    extra = people.extra[which]
    readable = np.isfinite(extra).all(axis=1)
    numbers = np.concatenate(
        [catalogue.rows(which, np.arange(n_items)), np.where(readable, part.n + np.arange(len(extra)), -1)]
    )
    histories, owner = people.histories.renumbered(numbers), people.known // max(n_items, 1)
    known_rows = catalogue.rows(which, people.known % max(n_items, 1))
    known = np.sort((owner * part.n + known_rows)[known_rows >= 0])
    here = None if allowed is None else allowed[catalogue.items(which, np.arange(part.n))]
    liked = histories.liked.sizes
    if not part.n or (here is not None and not here.any()):
        return Pool(rows, scores, complete)
    strategies = np.where(liked > 0, chosen(wanted.strategies[which], part.metric, liked), -1)
    for number in np.unique(strategies[strategies >= 0]):
        users = np.flatnonzero(strategies == number)
        theirs = People(histories, [], known).some(users, part.n)
        asked = Asked(part, theirs.histories, extra, theirs.known, here, depth, reach)
        found = candidates(asked, STRATEGIES[number])
        rows[users] = catalogue.items(which, _wide(found.rows, depth, -1))
        scores[users], complete[users] = _wide(found.scores, depth, np.nan), found.complete
    return Pool(rows, scores, complete)


def _varied(catalogue: Catalogue, pool: Pool, weights: list[float], wanted: Wanted) -> Pool:
    """The candidates that are shown, by maximal marginal relevance and by caps."""
    kinds = most = None
    if wanted.most:
        columns = np.stack([catalogue.kinds(column) for column in wanted.most], axis=-1)
        kinds = np.where(pool.rows[..., None] < 0, -1, columns[pool.rows])
        most = np.array(list(wanted.most.values()), np.int64)
    width = sum(part.searcher.store.dim for part in catalogue.parts) if wanted.diversity else 1
    at_once = max(_VECTOR_VALUES // (width * max(pool.rows.shape[1], 1)), 1)
    taken = []
    for first in range(0, len(pool.rows), at_once):
        some = slice(first, first + at_once)
        vectors = likeness_vectors(catalogue, pool.rows[some], weights) if wanted.diversity else None
        of_kind = None if kinds is None else kinds[some]
        taken.append(
            select(pool.scores[some], wanted.k, diversity=wanted.diversity, vectors=vectors, kinds=of_kind, most=most)
        )
    places = np.concatenate(taken) if taken else np.empty((0, wanted.k), np.int64)
    found = places >= 0
    rows = np.where(found, np.take_along_axis(pool.rows, np.maximum(places, 0), 1), -1)
    scores = np.where(found, np.take_along_axis(pool.scores, np.maximum(places, 0), 1), np.nan).astype(np.float32)
    return Pool(rows, scores, pool.complete)


def likeness_vectors(catalogue: Catalogue, items: Rows, weights: list[float]) -> NDArray[np.float32]:
    """Vectors of items (any shape, -1 for none) whose products are likenesses: the cosines in each index, weighted."""
    sides = []
    for which, (part, weight) in enumerate(zip(catalogue.parts, weights, strict=True)):
        rows = np.where(items < 0, -1, catalogue.rows(which, np.maximum(items, 0)))
        unit = (
            l2_normalize(part.vectors(np.maximum(rows, 0).ravel())) if part.n else np.zeros((rows.size, 1), np.float32)
        )
        unit[rows.ravel() < 0] = 0
        sides.append(unit.reshape(*items.shape, -1) * np.float32((weight / sum(weights)) ** 0.5))
    return np.concatenate(sides, axis=-1)


def _wide(values: NDArray[T], width: int, fill: float) -> NDArray[T]:
    """Columns cut or filled up to `width`."""
    if values.shape[1] >= width:
        return values[:, :width]
    return np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=fill)
