"""Which item of a group stands for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from embedsearch.groups.nearness import Nearness
from embedsearch.vectors import Matrix

Places = NDArray[np.int64]
VectorsAt = Callable[[Places], Matrix]
_SAME = 1e-6  # below such a difference, rounding would choose between equal items
_AT_ONCE = 2**14  # vectors


def kept_in(n: int, vectors_at: VectorsAt, nearness: Nearness, *, strict: bool) -> tuple[Places, NDArray[np.float64]]:
    """For each of the n items of one component the place (0 to n - 1) of the one that is kept for it, and how near.

    vectors_at: the vectors of places, float32. The most central item is kept: the nearest to the mean of all, the first
    of those that are equally central. strict: items that are not near enough to it are not counted to it; of them the
    most central is kept as well, and so on, until each item is near enough to one that is kept, and goes to the nearest
    of those (the first, of equally near ones).
    """
    total = sum((x.sum(axis=0, dtype=np.float64) for _, x in _blocks(n, vectors_at)), np.float64(0))
    mean = np.asarray(total / n)[None, :]
    central = np.concatenate([nearness.of_pairs(x, mean) for _, x in _blocks(n, vectors_at)])
    scale = float(np.abs(central).max()) or 1.0
    order = np.argsort(-np.round(central / (_SAME * scale)), kind="stable")
    kept = np.full(n, -1, np.int64)
    near = np.full(n, -np.inf)
    for place in order.tolist():
        if kept[place] >= 0:
            continue
        chosen = vectors_at(np.array([place]))
        for places, x in _blocks(n, vectors_at):
            found = nearness.of_pairs(x, chosen)
            better = found > near[places] + _SAME * scale
            if strict:
                better &= (found >= nearness.least) & (kept[places] != places)
            kept[places[better]], near[places[better]] = place, found[better]
            if place in places:
                near[place], kept[place] = found[place - places[0]], place
        if not strict:
            break
    return kept, near


def _blocks(n: int, vectors_at: VectorsAt) -> Iterator[tuple[Places, Matrix]]:
    for first in range(0, n, _AT_ONCE):
        places = np.arange(first, min(first + _AT_ONCE, n))
        yield places, vectors_at(places)
