"""A forest of items that are joined pair by pair (union-find), and joining by a block of scores.

A forest is int64 n: the parent of each item, which is never after it; a root is its own parent. Tarjan 1975.
"""

from __future__ import annotations

import numpy as np

from embedsearch.compiled.compiling import compiled


def _root_of(forest, item):
    while forest[item] != item:
        forest[item] = forest[forest[item]]  # halves the way for the next one
        item = forest[item]
    return item


root_of = compiled(_root_of)


def _roots_of(forest, items):
    roots = np.empty(len(items), np.int64)
    for n in range(len(items)):
        roots[n] = root_of(forest, items[n])
    return roots


roots_of = compiled(_roots_of)


def _join(forest, ours, theirs):
    """Joins ours[n] with theirs[n]; how many of them were apart."""
    n_joined = 0
    for n in range(len(ours)):
        a, b = root_of(forest, ours[n]), root_of(forest, theirs[n])
        if a != b:
            forest[max(a, b)] = min(a, b)
            n_joined += 1
    return n_joined


join = compiled(_join)


def _join_block(forest, ours, theirs, x, y, nearness, margins, our_sizes, their_sizes, limit, is_l2):
    """Joins ours[a] with theirs[b] where they are as near as `limit`.

    nearness: float32 len(ours) x len(theirs), larger is nearer, right to margins * our_sizes[a] * their_sizes[b], or
    the sum of the sizes for l2. Where that leaves a doubt, it is computed in float64 from the vectors x and y.
    """
    for a in range(len(ours)):
        own = root_of(forest, ours[a])
        for b in range(len(theirs)):
            near = nearness[a, b]
            size = our_sizes[a] + their_sizes[b] if is_l2 else our_sizes[a] * their_sizes[b]
            margin = margins * size
            if near < limit - margin:
                continue
            other = root_of(forest, theirs[b])
            if other == own:
                continue
            if near < limit + margin:
                exact = 0.0
                for d in range(x.shape[1]):
                    if is_l2:
                        step = np.float64(x[a, d]) - np.float64(y[b, d])
                        exact -= step * step
                    else:
                        exact += np.float64(x[a, d]) * np.float64(y[b, d])
                if exact < limit:
                    continue
            forest[max(own, other)] = min(own, other)
            own = min(own, other)


join_block = compiled(_join_block)
