"""What queries are walked and scored by, compiled: what `Codec.queries` and `Regions.nearest` do in numpy.

Not by a matrix product of numpy's: the threads of its BLAS go on spinning for a while when they are done, and take the
processor from those that walk (20,000 queries a second instead of 70,000).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from embedsearch.index.graph.compiling import compiled


@njit(fastmath=True)
def _dot(a, b):
    total = np.float32(0.0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(fastmath=True)
def _dots(a, b, c, d, e):
    """Inner products of `a` with each of four, so that `a` is read once."""
    w, x, y, z = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for i in range(len(a)):
        w += a[i] * b[i]
        x += a[i] * c[i]
        y += a[i] * d[i]
        z += a[i] * e[i]
    return w, x, y, z


@compiled
def prepare_queries(space, x, queries, region, first, last):
    """Fills rows first..last of `queries` (see arrays.Queries) and `region`, int64 n. x: float32 n x width."""
    across, along, n_axes = queries.across, queries.along, len(space.axes)
    for q in range(first, last):
        across[q, : x.shape[1]] = x[q]
        across[q, x.shape[1] :] = 0
        if space.euclidean:
            across[q] -= space.mean
            queries.bases[q] = _dot(across[q], across[q])
        else:
            queries.bases[q] = _dot(across[q], space.mean)
    for start in range(first, last, 4):
        q, r, s, t = start, min(start + 1, last - 1), min(start + 2, last - 1), min(start + 3, last - 1)
        for axis in range(n_axes):
            along[q, axis], along[r, axis], along[s, axis], along[t, axis] = _dots(
                space.axes[axis], across[q], across[r], across[s], across[t]
            )
    place = np.empty(n_axes, np.float32)
    nearest = np.empty(queries.entries.shape[1], np.float32)
    for q in range(first, last):
        stretch = np.float32(1.0)
        if space.radius > 0:
            length = np.sqrt(_dot(x[q], x[q]))
            stretch = space.radius / length if length > 0 else np.float32(0.0)
        for axis in range(n_axes):
            place[axis] = along[q, axis] * stretch - space.mean_along[axis]
            byte = place[axis] * space.inverse_step + np.float32(128.5)
            queries.heads[q, axis] = np.uint8(min(max(byte, np.float32(0.0)), np.float32(255.0)))
        queries.heads[q, n_axes:] = 128
        count = 0
        for number in range(len(space.centres)):
            centre = space.centres[number]
            distance = space.lengths[number] - np.float32(2.0) * _dot(centre, place[: len(centre)])
            if count == len(nearest) and distance >= nearest[count - 1]:
                continue
            at = count if count < len(nearest) else count - 1
            while at > 0 and nearest[at - 1] > distance:
                nearest[at], queries.entries[q, at] = nearest[at - 1], queries.entries[q, at - 1]
                at -= 1
            nearest[at], queries.entries[q, at] = distance, space.doors[number]
            if at == 0:
                region[q] = number
            count = min(count + 1, len(nearest))
