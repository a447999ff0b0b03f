"""Pairs that are near enough, as the index finds them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.groups.forest import Forest
from embedsearch.groups.nearness import Nearness
from embedsearch.pipeline.search import Rows, Searcher
from embedsearch.types import Progress

Mask = NDArray[np.bool_]

# how many others are asked for: of the items whose last one is still near enough, more
DEPTHS = (10, 40, 160)
_AT_ONCE = 2**12  # items
# scores of indexes are approximate: pairs that miss the limit by such a share of it, and of the squared length, are
# looked at as well
_SLACK, _SLACK_OF_LENGTH = 0.01, 0.001


def search_all(searcher: Searcher, among: Mask | None, forest: Forest, nearness: Nearness, progress: Progress) -> None:
    """Joins the pairs that are near enough among those that searches for every item find.

    An item whose answers end while they are still near enough is asked for again with more of them. Where even the most
    are not enough, its whole component is: for what is near one of them outside of it, until there is nothing.
    So no pair is lost because there are many, only where the index does not find it. among: as in `compare_all`.
    """
    waiting = np.arange(len(searcher.store)) if among is None else np.flatnonzero(among)
    if len(waiting) < 2:
        return
    for depth in DEPTHS:
        progress.stage(f"searched, {depth} nearest", len(waiting))
        full: list[Rows] = [np.empty(0, np.int64)]
        for first in range(0, len(waiting), _AT_ONCE):
            own = waiting[first : first + _AT_ONCE]
            full.append(own[_searched(searcher, own, depth, among, forest, nearness)])
            progress.advance(len(own))
        waiting = np.concatenate(full)
        if depth >= (len(searcher.store) if among is None else int(among.sum())) - 1:
            return
    _search_outside(searcher, waiting, among, forest, nearness, progress)


def _search_outside(
    searcher: Searcher, full: Rows, among: Mask | None, forest: Forest, nearness: Nearness, progress: Progress
) -> None:
    """Grows components of items with very many neighbours by what lies outside of them, until nothing is joined."""
    progress.stage("searched outside of large groups")
    settled: set[tuple[int, int]] = set()
    while True:
        before = forest.roots()
        for root in np.unique(before[full]).tolist():
            is_inside = before == root
            state = root, int(is_inside.sum())
            outside = ~is_inside if among is None else among & ~is_inside
            if state in settled or not outside.any():
                continue
            settled.add(state)
            members = full[is_inside[full]]
            for first in range(0, len(members), _AT_ONCE):
                own = members[first : first + _AT_ONCE]
                _searched(searcher, own, DEPTHS[0], outside, forest, nearness)
                progress.advance(len(own))
        if (forest.roots() == before).all():
            return


def _searched(
    searcher: Searcher, own: Rows, depth: int, among: Mask | None, forest: Forest, nearness: Nearness
) -> Mask:
    """Joins each of the rows `own` with what it finds; for which of them more may be near enough."""
    x = searcher.store.vectors_at(own)
    rows, scores = searcher.search(x, depth + 1, allowed=among, n_extra=1)
    near = nearness.of_scores(np.nan_to_num(scores, nan=-np.inf if nearness.higher else np.inf))
    slack = _SLACK * abs(nearness.least) + _SLACK_OF_LENGTH * np.einsum("nd,nd->n", x, x)[:, None]
    is_near = (rows >= 0) & (near >= nearness.least - slack)
    is_full: Mask = (is_near | (rows < 0)).all(axis=1)
    is_near &= rows != own[:, None]
    query, place = np.nonzero(is_near)
    theirs = rows[query, place]
    apart = forest.roots(own[query]) != forest.roots(theirs)
    query, theirs = query[apart], theirs[apart]
    if not len(query):
        return is_full
    for first in range(0, len(query), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        mine, others = query[some], theirs[some]
        # what is joined is what their stored vectors say
        exact = nearness.of_pairs(x[mine], searcher.store.vectors_at(others))
        forest.join(own[mine[exact >= nearness.least]], others[exact >= nearness.least])
    return is_full
