"""The candidates of one index for many users, by each strategy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedsearch.pipeline.recommend.part import Part
from embedsearch.recommend.histories import Histories
from embedsearch.recommend.profiles import PUSH, centroids, pushed, tastes
from embedsearch.recommend.strategies import NEIGHBOURS, Strategy
from embedsearch.recommend.tally import Pool, Rows, Together, best_of_votes
from embedsearch.recommend.votes import Values, reciprocal_ranks, seats, weighted_likeness
from embedsearch.vectors import Matrix

_SPARE = 32  # known items that a first search is prepared to meet; deeper ones follow where they are more
_PENALISED = 100  # candidates among which what is disliked counts for `max`, at least


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

    def votes(self, users: Rows, rows: Rows, values: Values, together: Together, depth: int | None = None) -> Pool:
        """The best of lists (n x m) of the users (n)."""
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
        return Pool(found, scores, np.full(len(self.histories), rows.shape[1] >= self.n_allowed))


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
    """Reciprocal ranks in the lists of neighbours, summed; the lists of what is disliked count against."""
    rows, alike = _lists(asked, histories, _list_depth(asked, NEIGHBOURS))
    return asked.votes(histories.users, rows, reciprocal_ranks(alike, histories.weights), "sum")


def _best_favourite(asked: Asked, liked: Histories, disliked: Histories, x: Matrix) -> Pool:
    """The largest weight x likeness to a favourite; less PUSH x the largest likeness to what is disliked."""
    rows, alike = _lists(asked, liked, _list_depth(asked, max(NEIGHBOURS, asked.depth)))
    values = weighted_likeness(alike, liked.weights)
    pushes = len(disliked.items) > 0
    depth = max(4 * asked.depth, _PENALISED) if pushes else asked.depth
    pool = asked.votes(liked.users, rows, values, "max", depth)
    # what stands in no list is at most as good as the last of the best list; so far the order is exact
    beyond = np.zeros(len(pool.rows))
    last = np.where((rows[:, -1] >= 0) & (rows.shape[1] < asked.n_allowed), values[:, -1], -np.inf)
    full = np.flatnonzero(liked.sizes)
    beyond[full] = np.maximum.reduceat(last, liked.starts[:-1][full])
    unsure = ~pool.complete[:, None] & (pool.scores < beyond[:, None])
    cut = Pool(np.where(unsure, -1, pool.rows), np.where(unsure, np.nan, pool.scores).astype(np.float32), pool.complete)
    return _penalised(asked, cut, disliked, x) if pushes else cut


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
    return max(min(usual * asked.reach, asked.n_allowed), 1)


def _search_depth(asked: Asked) -> int:
    most_known = int(np.bincount(asked.known // max(len(asked.part), 1)).max(initial=0))
    return max(min(asked.depth + min(most_known, _SPARE * asked.reach), asked.n_allowed), 1)


def _among(keys: Rows, ascending: Rows) -> NDArray[np.bool_]:
    if not len(ascending):
        return np.zeros(keys.shape, np.bool_)
    at = np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[at] == keys
    return found
