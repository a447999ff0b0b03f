"""What queries are walked and scored by, compiled: what `Codec.queries` and `Regions.nearest` do in numpy.

Not by a matrix product of numpy's: the threads of its BLAS go on spinning for a while when they are done, and take the
processor from those that walk.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from embedsearch.compiled.compiling import compiled
from embedsearch.compiled.matrix_ops import product

_TOGETHER = 32  # queries at once, so that what lies between the steps stays in the cache


@njit(fastmath=True)
def _dot(a, b):
    total = np.float32(0.0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(fastmath=True)
def _fill_head(along, stretch, mean_along, inverse_step, place, head):
    """Where a query lies among the rows, and its code there."""
    for axis in range(len(along)):
        place[axis] = along[axis] * stretch - mean_along[axis]
        byte = place[axis] * inverse_step + np.float32(128.5)
        head[axis] = np.uint8(min(max(byte, np.float32(0.0)), np.float32(255.0)))


@njit
def _nearest(lengths, products, doors, near, entries):
    """Puts the doors of the nearest regions, nearest first, into `entries`, and how near they are into `near`; the
    nearest region."""
    region, count = 0, 0
    for number in range(len(doors)):
        distance = lengths[number] - np.float32(2.0) * products[number]
        if count == len(near) and distance >= near[count - 1]:
            continue
        at = count if count < len(near) else count - 1
        while at > 0 and near[at - 1] > distance:
            near[at], entries[at] = near[at - 1], entries[at - 1]
            at -= 1
        near[at], entries[at] = distance, doors[number]
        if at == 0:
            region = number
        count = min(count + 1, len(near))
    return region


@compiled
def prepare_queries(space, x, queries, region, first, last):
    """Fills rows first..last of `queries` (see arrays.Queries) and `region`, int64 n. x: float32 n x width."""
    across, along, width = queries.across, queries.along, space.axes.shape[1]
    place = np.empty((_TOGETHER, width), np.float32)
    products = np.empty((_TOGETHER, space.centres.shape[1]), np.float32)
    near = np.empty(queries.entries.shape[1], np.float32)
    for start in range(first, last, _TOGETHER):
        stop = min(start + _TOGETHER, last)
        for q in range(start, stop):
            across[q, : x.shape[1]] = x[q]
            across[q, x.shape[1] :] = 0
            if space.euclidean:
                across[q] -= space.mean
                queries.bases[q] = _dot(across[q], across[q])
            else:
                queries.bases[q] = _dot(across[q], space.mean)
        product(across[start:stop], space.axes, along[start:stop])
        for q in range(start, stop):
            stretch = np.float32(1.0)
            if space.radius > 0:
                length = np.sqrt(_dot(x[q], x[q]))
                stretch = space.radius / length if length > 0 else np.float32(0.0)
            _fill_head(along[q], stretch, space.mean_along, space.inverse_step, place[q - start], queries.heads[q])
        product(place[: stop - start], space.centres, products[: stop - start])
        for q in range(start, stop):
            region[q] = _nearest(space.lengths, products[q - start], space.doors, near, queries.entries[q])
