"""Which favourites pulled an answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.pipeline.recommend.answer import People, Wanted
from embedsearch.pipeline.recommend.catalogue import Catalogue
from embedsearch.recommend.strategies import NEIGHBOURS, STRATEGIES, chosen
from embedsearch.recommend.tally import Pool
from embedsearch.recommend.votes import Values, reciprocal_ranks


def because_of(
    catalogue: Catalogue, people: People, weights: list[float], wanted: Wanted, pool: Pool, most: int
) -> list[list[list[str]]]:
    """For each user and each answer the ids of at most `most` favourites, the strongest pull first.

    The pull is what a favourite adds to the score: under agreement weight / (1 + rank) in whose list the answer
    stands, else weight x likeness; of several indexes, each with its weight, scaled so that the strongest pull in it
    is 1. Inputs that no index holds have no id, and are named by their place: "#0".
    """
    allowed = catalogue.allowed(wanted.where)
    told = []
    for user in range(len(pool.rows)):
        entries = people.some(np.array([user]), max(len(catalogue), 1)).histories
        one, places = entries.liked, np.flatnonzero(entries.weights > 0)
        found = pool.rows[user][pool.rows[user] >= 0]
        pulls = np.zeros((len(one.items), len(found)))
        for which, weight in enumerate(weights):
            here = _pulls(catalogue, which, people, one.items, one.weights, found, wanted, allowed)
            pulls += weight * here / max(float(np.abs(here).max(initial=0)), 1e-300)
        names = _names(catalogue, one.items, places)
        order = np.argsort(-pulls, axis=0, kind="stable")[:most]
        told.append([[names[entry] for entry in order[:, i] if pulls[entry, i] > 0] for i in range(len(found))])
    return told


def _pulls(
    catalogue: Catalogue,
    which: int,
    people: People,
    items: NDArray[np.int64],
    item_weights: Values,
    found: NDArray[np.int64],
    wanted: Wanted,
    allowed: NDArray[np.bool_] | None,
) -> Values:
    """n_liked x n_found, 0 where the index lacks one of both."""
    part, n_items, extra = catalogue.parts[which], len(catalogue), people.extra[which]
    own = items < n_items
    numbers = np.where(own, catalogue.rows(which, np.where(own, items, 0)), part.n + items - n_items)
    if len(extra):
        cold = ~own & np.isnan(extra[np.where(own, 0, items - n_items)]).any(axis=1)
        numbers[cold] = -1
    rows = catalogue.rows(which, found)
    pulls = np.zeros((len(items), len(found)))
    here, there = np.flatnonzero(numbers >= 0), np.flatnonzero(rows >= 0)
    if not len(here) or not len(there):
        return pulls
    if STRATEGIES[chosen(wanted.strategies[which], part.metric, np.array([len(here)]))[0]] == "agreement":
        among = None if allowed is None else allowed[catalogue.items(which, np.arange(part.n))]
        depth = min(NEIGHBOURS, part.n if among is None else int(among.sum()))
        lists, alike = part.neighbours(numbers[here], extra, max(depth, 1), among)
        votes = reciprocal_ranks(alike, item_weights[here])
        hits = lists[:, :, None] == rows[there]
        itself = item_weights[here][:, None] * (numbers[here][:, None] == rows[there])
        pulls[np.ix_(here, there)] = (votes[:, :, None] * hits).sum(axis=1) + itself
    if not pulls.any():
        alike = part.alike(part.anchors(numbers[here], extra), part.vectors(rows[there]))
        pulls[np.ix_(here, there)] = item_weights[here][:, None] * alike
    return pulls


def _names(catalogue: Catalogue, items: NDArray[np.int64], places: NDArray[np.int64]) -> list[str]:
    own = items < len(catalogue)
    ids = catalogue.ids_at(np.where(own, items, -1))
    return [str(name) if mine else f"#{place}" for place, name, mine in zip(places, ids, own, strict=True)]
