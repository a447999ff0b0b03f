"""How many neighbours count in agreement, and how much the first of them: the grid that its two constants rest on."""

from __future__ import annotations

import numpy as np

import embedsearch as es
from embedsearch.evaluate import Interactions
from embedsearch.recommend.strategies import NEIGHBOURS
from embedsearch.recommend.tally import best_of_votes
from embedsearch.recommend.votes import RRF_K, reciprocal_ranks

DEPTHS, CONSTANTS = (10, 20, 50, 100), (0, 1, 2, 5, 10, 60)


def ndcg(ids: np.ndarray, truths: list[set[str]], k: int) -> np.ndarray:
    """Of each user's answers, those that are in the truth having gain 1."""
    gains = 1 / np.log2(np.arange(2, k + 2))
    hits = np.array([[item in truth for item in row] for row, truth in zip(ids, truths, strict=True)], float)
    ideal = np.cumsum(gains)[[min(len(truth), k) - 1 for truth in truths]]
    return hits @ gains[: hits.shape[1]] / ideal


def rank_grid(inner: Interactions, out: Interactions, recs: dict[str, es.Recommender], k: int) -> list[str]:
    """The lines of the page. inner: what makes profiles. out: what is looked for. recs: of one index each, by name."""
    lines = [
        "### What agreement rests on",
        "",
        f"nDCG@{k} on the validation part of the sum of 1 / (C + rank) over the M nearest of every favourite; in "
        f"use are M = {NEIGHBOURS} and C = {RRF_K}.",
        "",
        "| | M | " + " | ".join(f"C = {constant}" for constant in CONSTANTS) + " |",
        "|---" * (2 + len(CONSTANTS)) + "|",
    ]
    told = []
    for name, rec in recs.items():
        values = _values(inner, out, rec, k)
        for depth in DEPTHS:
            cells = (f"{values[depth, constant].mean():.4f}" for constant in CONSTANTS)
            lines.append(f"| {name} | {depth} | " + " | ".join(cells) + " |")
        best = max(values, key=lambda pair: values[pair].mean())
        apart = values[best] - values[NEIGHBOURS, RRF_K]
        told.append(
            f"{name}: best is M = {best[0]}, C = {best[1]}, beside those in use {apart.mean():+.4f} ± "
            f"{apart.std() / len(apart) ** 0.5:.4f}"
        )
    return [*lines, "", f"Mean difference and its standard error, of the same users: {'; '.join(told)}."]


def _values(inner: Interactions, out: Interactions, rec: es.Recommender, k: int) -> dict[tuple[int, int], np.ndarray]:
    """nDCG of each user by M and C."""
    catalogue = rec._current()
    (part,) = catalogue.parts
    rows = catalogue.find(inner.items.tolist())
    there = rows >= 0
    rows, names, liked = rows[there], inner.users[there].astype(str), inner.weights[there] > 0
    users = sorted(set(names[liked]) & set(out.users))
    number = {user: at for at, user in enumerate(users)}
    owner = np.array([number.get(user, -1) for user in names])
    keys = np.unique((owner * part.n + rows)[owner >= 0])
    votes = np.flatnonzero(liked & (owner >= 0))
    votes = votes[np.argsort(owner[votes], kind="stable")]
    items, at = np.unique(rows[votes], return_inverse=True)
    nothing = np.empty((0, part.searcher.store.dim), np.float32)
    near, alike = part.neighbours(items, nothing, max(DEPTHS), None)
    truths = [set(out.items[out.users == user]) for user in users]
    values = {}
    for depth in DEPTHS:
        for constant in CONSTANTS:
            told = reciprocal_ranks(alike[at, :depth], np.ones(len(votes)), constant)
            found, _ = best_of_votes(
                np.repeat(owner[votes], depth),
                near[at, :depth].ravel(),
                told.ravel(),
                n_users=len(users),
                n_rows=part.n,
                known=keys,
                depth=k,
                together="sum",
            )
            values[depth, constant] = ndcg(catalogue.ids_at(found), truths, k)
    return values
