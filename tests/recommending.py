"""Recommending by brute force, written apart from the package: one user, every item scored."""

from __future__ import annotations

import numpy as np
from oracle import scores_of

NEIGHBOURS, RANK, PUSH = 20, 1, 0.2


def likeness(xq, xb, metric):
    scores = scores_of(xq, xb, metric)
    return 1 / (1 + scores) if metric == "l2" else scores


def unit(x, metric):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True) if metric == "cosine" else x


def profile(x, metric, weights, disliked=()):
    """x: vectors of what is liked."""
    liked = np.average(unit(x, metric), axis=0, weights=weights)
    if not len(disliked):
        return liked
    away = unit(disliked, metric).mean(axis=0)
    return liked + PUSH * (liked - away) if metric == "l2" else liked - PUSH * away


def scored(x, metric, strategy, liked, weights=None, disliked=(), allowed=None, exclude_liked=True):
    """A score for every row, -inf for those that are no candidates. liked, disliked: rows. Weights are divided by the
    largest."""
    liked, disliked = list(liked), list(disliked)
    weights = np.ones(len(liked)) if weights is None else np.asarray(weights, float) / np.max(weights)
    allowed = np.ones(len(x), bool) if allowed is None else allowed
    if strategy == "centroid":
        scores = likeness(profile(x[liked], metric, weights, x[disliked])[None], x, metric)[0]
    elif strategy == "max":
        scores = (weights[:, None] * likeness(x[liked], x, metric)).max(axis=0)
        if disliked:
            scores -= PUSH * likeness(x[disliked], x, metric).max(axis=0)
    else:
        assert strategy == "agreement"
        scores = np.zeros(len(x))
        votes = [*zip(liked, weights, strict=True), *((row, -weights.mean()) for row in disliked)]
        for row, weight in votes:
            alike = likeness(x[row][None], x, metric)[0]
            alike[row] = -np.inf
            alike[~allowed] = -np.inf
            best = np.argsort(-alike, kind="stable")[:NEIGHBOURS]
            for rank, other in enumerate(best[np.isfinite(alike[best])], start=1):
                scores[other] += weight / (RANK + rank)
            scores[row] += weight
        scores[scores <= 0] = -np.inf
    scores[[*liked, *disliked] if exclude_liked else disliked] = -np.inf
    scores[~allowed] = -np.inf
    return scores


def assert_best(ids, scores, truth, k, tolerance=1e-4):
    """ids are the k best of `truth` (ties may stand for one another), with their scores."""
    best = np.sort(truth[np.isfinite(truth)])[::-1][:k]
    rows = np.array([int(item) for item in ids])
    assert len(rows) == len(best) == len(set(rows.tolist()))
    np.testing.assert_allclose(scores, best, atol=tolerance)
    np.testing.assert_allclose(truth[rows], best, atol=tolerance)
