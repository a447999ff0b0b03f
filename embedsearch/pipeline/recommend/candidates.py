"""The candidates of one index for many users, by each strategy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedsearch.best import Rows
from embedsearch.pipeline.recommend.part import Part
from embedsearch.recommend.histories import Histories
from embedsearch.recommend.profiles import PUSH, centroids, pushed, tastes
from embedsearch.recommend.strategies import NEIGHBOURS, Strategy
from embedsearch.recommend.tally import Pool, Together, best_of_votes
from embedsearch.recommend.votes import Values, reciprocal_ranks, seats, weighted_likeness
from embedsearch.vectors import Matrix

_SPARE = 32  # known items that a first search is prepared to meet; deeper ones follow where they are more
_PER_SLOT, _PENALISED = 4, 100  # candidates among which what is disliked counts for `max`, and at least so many
DEEPER = 4  # so many times as deep where answers are short


@dataclass(frozen=True, slots=True)
class Asked:
    """What candidates are wanted of one index.

    histories: of the users, items being rows of the index and, from len(part) on, rows of `extra` (float32 n x D).
    known: ascending keys user * len(part) + row of what is no answer. allowed: bool per row, None for all. depth: how
    many candidates. reach: 1, and more where a first look did not find enough.
    """

    part: Part
    histories: Histories
    extra: Matrix
    known: Rows
    allowed: NDArray[np.bool_] | None
    depth: int
    reach: int = 1

    @property
    def n_allowed(self) -> int:
        return len(self.part) if self.allowed is None else int(self.allowed.sum())

    def votes(
        self,
        users: Rows,
        rows: Rows,
        values: Values,
        together: Together,
        *,
        depth: int | None = None,
        looked: int | None = None,
    ) -> Pool:
        """The `depth` best of lists (n x m) of the users (n). looked: how deep the lists are, where that is not m."""
        found, scores = best_of_votes(
            np.repeat(users, rows.shape[1]),
            rows.ravel(),
            values.ravel(),
            n_users=len(self.histories),
            n_rows=max(len(self.part), 1),
            known=self.known,
            depth=self.depth if depth is None else depth,
            together=together,
        )
        deep = rows.shape[1] if looked is None else looked
        return Pool(found, scores, np.full(len(self.histories), deep >= self.n_allowed))

    def own_rows(self, histories: Histories) -> Rows:
        """The row of each entry where it may be answered itself, else -1."""
        rows = np.where(histories.items < len(self.part), histories.items, -1)
        closed = _among(histories.users * len(self.part) + rows, self.known)
        if self.allowed is not None:
            closed |= ~self.allowed[rows]
        return np.where(closed, -1, rows)


def deepest_list(depth: int, reach: int, *, pushes: bool) -> int:
    """How many neighbours of an entry are looked at, at most; pushes: whether something is disliked."""
    return max(NEIGHBOURS * reach, _best_list(depth, pushes=pushes))


def _best_list(depth: int, *, pushes: bool) -> int:
    return max(NEIGHBOURS, _PER_SLOT * depth, _PENALISED) if pushes else max(NEIGHBOURS, depth)


def candidates(asked: Asked, strategy: Strategy) -> Pool:
    """The candidates of users who like something; see the strategies for their formulas."""
    liked, disliked = asked.histories.liked, asked.histories.disliked
    items, at = np.unique(np.concatenate([liked.items, disliked.items]), return_inverse=True)
    n_liked = len(liked.items)
    # from here on items are places among the vectors that matter
    liked = Histories(liked.starts, at[:n_liked], liked.weights)
    disliked = Histories(disliked.starts, at[n_liked:], disliked.weights)
    if strategy == "agreement":
        return _agreement(asked, asked.histories.where(asked.histories.weights != 0))
    x = asked.part.anchors(items, asked.extra)
    if strategy == "max":
        return _best_favourite(asked, asked.histories.liked, disliked, x)
    return _clusters(asked, liked, disliked, x) if strategy == "clusters" else _centroid(asked, liked, disliked, x)


def _centroid(asked: Asked, liked: Histories, disliked: Histories, x: Matrix) -> Pool:
    """Likeness to the weighted mean of what is liked (Rocchio where something is disliked)."""
    profiles = _pushed(asked, centroids(liked, x), liked, disliked, x, np.arange(len(liked)))
    users = np.flatnonzero(liked.sizes)
    rows, alike = asked.part.search(profiles[users], _search_depth(asked), asked.allowed)
    return asked.votes(users, rows, alike, "max")


def _clusters(asked: Asked, liked: Histories, disliked: Histories, x: Matrix) -> Pool:
    """A mean for each taste; slots fall to tastes in proportion to the weights of their items."""
    taste = tastes(liked, x, asked.part.metric)
    order = np.lexsort((taste, liked.users))
    users, taste = liked.users[order], taste[order]
    begins = np.flatnonzero((np.diff(users, prepend=-1) != 0) | (np.diff(taste, prepend=-1) != 0))
    by_taste = Histories(np.append(begins, len(order)), liked.items[order], liked.weights[order])
    owner = users[begins]
    profiles = _pushed(asked, centroids(by_taste, x), liked, disliked, x, owner)
    rows, alike = asked.part.search(profiles, _search_depth(asked), asked.allowed)
    keys = owner[:, None] * len(asked.part) + rows
    is_open = (rows >= 0) & ~_among(keys, asked.known)
    values = seats(alike, by_taste.per_user(by_taste.weights), is_open)
    return asked.votes(owner, rows, values, "max")


def _pushed(asked: Asked, profiles: Matrix, liked: Histories, disliked: Histories, x: Matrix, owner: Rows) -> Matrix:
    """Profiles moved away from what their users dislike. owner: the user of each profile."""
    if not len(disliked.items):
        return profiles
    away = centroids(disliked, x)[owner]
    mean = centroids(liked, x)[owner]
    return pushed(profiles, mean, away, (disliked.sizes > 0)[owner], asked.part.metric)


def _agreement(asked: Asked, histories: Histories) -> Pool:
    """Reciprocal ranks in the lists of neighbours, summed; the lists of what is disliked count against.

    Only what has a sum above 0 is a candidate. Where that is not enough, lists are read deeper; what comes in by that
    stands behind, each time with half the sum of the weights (the most that a sum can be) less, so that no answer
    changes its place with the number that is asked for. In the end, when all lists are whole, comes what is left.
    """
    depths = [_list_depth(asked, NEIGHBOURS * DEEPER**n) for n in range(_levels(asked.reach))]
    rows, alike = _lists(asked, histories, depths[-1])
    values = reciprocal_ranks(alike, histories.weights)
    most = histories.liked.per_user(histories.liked.weights) / 2
    own = asked.own_rows(histories)
    n_own = int((own >= 0).any())  # a column more, for what is liked and may be answered
    if n_own:
        rows, values = np.column_stack([own, rows]), np.column_stack([histories.weights, values])
    pools: list[Pool] = []
    whole = depths[-1] >= asked.n_allowed
    for level, depth in enumerate([*depths, depths[-1]] if whole else depths):
        pool = asked.votes(histories.users, rows[:, : depth + n_own], values[:, : depth + n_own], "sum", looked=depth)
        kept = (pool.scores > 0) if level < len(depths) else pool.rows >= 0
        behind = (pool.scores - level * most[:, None]).astype(np.float32)
        pools.append(_kept(Pool(pool.rows, behind, pool.complete), kept))
        user, place = np.nonzero(kept)
        asked = replace(asked, known=np.union1d(asked.known, user * len(asked.part) + pool.rows[user, place]))
    return _one_after_the_other(pools, asked.depth)


def _levels(reach: int) -> int:
    """How often lists were read deeper, and the first time."""
    levels = 1
    while reach > 1:
        levels, reach = levels + 1, reach // DEEPER
    return levels


def _kept(pool: Pool, kept: NDArray[np.bool_]) -> Pool:
    """Some of the candidates."""
    rows, scores = np.where(kept, pool.rows, -1), np.where(kept, pool.scores, np.nan).astype(np.float32)
    return Pool(rows, scores, pool.complete)


def _one_after_the_other(pools: list[Pool], depth: int) -> Pool:
    """The candidates of several, those of the first first."""
    rows, scores = np.hstack([pool.rows for pool in pools]), np.hstack([pool.scores for pool in pools])
    order = np.argsort(rows < 0, axis=1, kind="stable")[:, :depth]
    return Pool(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1), pools[-1].complete)


def _best_favourite(asked: Asked, liked: Histories, disliked: Histories, x: Matrix) -> Pool:
    """The largest weight x likeness to a favourite; less PUSH x the largest likeness to what is disliked, of the best
    _PER_SLOT candidates for each that is wanted, and at least _PENALISED."""
    pushes = len(disliked.items) > 0
    depth = _list_depth(asked, _best_list(asked.depth, pushes=pushes))
    rows, alike = _lists(asked, liked, depth)
    last = np.where((rows[:, -1] >= 0) & (depth < asked.n_allowed), alike[:, -1] * liked.weights, -np.inf)
    own = asked.own_rows(liked)
    if (own >= 0).any():
        rows = np.column_stack([own, rows])
        alike = np.column_stack([_alike_itself(asked, own), alike])
    values = weighted_likeness(alike, liked.weights)
    pool = asked.votes(
        liked.users, rows, values, "max", depth=_best_list(asked.depth, pushes=True) if pushes else None, looked=depth
    )
    # what stands in no list is at most as good as the last of the best list; so far the order is exact
    beyond = np.zeros(len(pool.rows))
    full = np.flatnonzero(liked.sizes)
    beyond[full] = np.maximum.reduceat(last, liked.starts[:-1][full])
    unsure = ~pool.complete[:, None] & (pool.scores < beyond[:, None])
    cut = _kept(pool, ~unsure)
    return _penalised(asked, cut, disliked, x) if pushes else cut


def _alike_itself(asked: Asked, rows: Rows) -> Values:
    """Likeness of rows (-1: none, 0) to themselves."""
    x = asked.part.vectors(np.maximum(rows, 0))[:, None]
    return np.where(rows >= 0, asked.part.alike(x, x)[:, 0, 0], 0)


def _penalised(asked: Asked, pool: Pool, disliked: Histories, x: Matrix) -> Pool:
    rows, scores = pool.rows.copy(), pool.scores.copy()
    for user in np.flatnonzero(disliked.sizes):
        mine = slice(disliked.starts[user], disliked.starts[user + 1])
        found = rows[user] >= 0
        if found.any():
            alike = asked.part.alike(asked.part.vectors(rows[user][found]), x[disliked.items[mine]])
            share = disliked.weights[mine] / disliked.weights[mine].max()
            scores[user, found] -= (PUSH * (alike * share).max(axis=1)).astype(np.float32)
    order = np.argsort(np.where(np.isnan(scores), np.inf, -scores), axis=1, kind="stable")[:, : asked.depth]
    return Pool(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1), pool.complete)


def _lists(asked: Asked, histories: Histories, depth: int) -> tuple[Rows, Values]:
    """The neighbours of each entry, n_entries x depth."""
    items, at = np.unique(histories.items, return_inverse=True)
    rows, alike = asked.part.neighbours(items, asked.extra, depth, asked.allowed)
    return rows[at], alike[at]


def _list_depth(asked: Asked, usual: int) -> int:
    return max(min(usual, asked.n_allowed), 1)


def _search_depth(asked: Asked) -> int:
    most_known = int(np.bincount(asked.known // max(len(asked.part), 1)).max(initial=0))
    return max(min(asked.depth + min(most_known, _SPARE * asked.reach), asked.n_allowed), 1)


def _among(keys: Rows, ascending: Rows) -> NDArray[np.bool_]:
    if not len(ascending):
        return np.zeros(keys.shape, np.bool_)
    at = np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[at] == keys
    return found
