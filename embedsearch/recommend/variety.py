"""Which of the candidates are shown: unlike one another, and not too many of one kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def relevance(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores n x C (NaN where there is none) scaled to 0..1 in each row, as they are to be weighed against
    likeness; all 1 where they are level, -inf where there is none."""
    there = np.isfinite(scores)
    low = np.where(there, scores, np.inf).min(axis=1, initial=np.inf, keepdims=True).astype(np.float64)
    high = np.where(there, scores, -np.inf).max(axis=1, initial=-np.inf, keepdims=True).astype(np.float64)
    spread = high - low
    level = ~(spread > 0)
    with np.errstate(invalid="ignore"):
        scaled = (np.where(there, scores, 0) - np.where(level, 0, low)) / np.where(level, 1, spread)
    return np.where(there, np.where(level, 1.0, scaled), -np.inf)


def select(
    scores: NDArray[np.float32],
    k: int,
    *,
    diversity: float = 0.0,
    vectors: NDArray[np.float32] | None = None,
    kinds: NDArray[np.int64] | None = None,
    most: NDArray[np.int64] | None = None,
) -> Rows:
    """Places of the candidates that are shown, int64 n x min(k, C), best first; -1 fills the end.

    Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998): the next is always the one with the largest
    (1 - diversity) x relevance - diversity x (largest likeness to those taken already). With diversity 0 that is the
    order of the scores.

    scores: n x C, best first, NaN where there is none. vectors: n x C x D of unit length, or shorter, needed for a
    diversity above 0. kinds: int64 n x C x F, a number for the value in each of F columns, -1 where there is none; of
    one value at most most[f] are taken.
    """
    n, n_candidates = scores.shape
    k = min(k, n_candidates)
    taken = np.full((n, k), -1, np.int64)
    there = np.isfinite(scores)
    # without diversity the order itself counts, for scores may tie
    value = (1 - diversity) * np.where(there, relevance(scores), 0) if diversity else -np.arange(n_candidates)[None]
    worth = np.where(there, value, -np.inf)
    nearest = np.full(scores.shape, -1.0)  # the largest likeness to what is taken
    everyone = np.arange(n)
    counts = (
        None if kinds is None else np.zeros(kinds.shape, np.int64)
    )  # of each candidate's values among what is taken
    for place in range(k):
        now = worth if not diversity or place == 0 else worth - diversity * nearest
        best = now.argmax(axis=1)
        found = np.isfinite(now[everyone, best])
        taken[found, place] = best[found]
        if not found.any():
            break
        worth[everyone, best] = -np.inf
        if diversity:
            assert vectors is not None
            alike = np.matmul(vectors, vectors[everyone, best][:, :, None])[:, :, 0]
            nearest = np.maximum(nearest, alike)
        if kinds is not None and counts is not None and most is not None:
            mine = kinds[everyone, best][:, None]  # n x 1 x F
            counts += (kinds == mine) & (kinds >= 0) & found[:, None, None]
            worth[(counts >= most).any(axis=2)] = -np.inf
    return taken
