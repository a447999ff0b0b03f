"""Recall with ties, and speed at a given recall, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

# two scores this close, relatively, are one: float32 sums in another order differ by as much
TIE = 1e-6


@dataclass(frozen=True, slots=True)
class Point:
    """One effort of one library: recall@10, and queries a second in a batch."""

    effort: float
    recall: float
    qps: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Queries a second at some recall. least: the curve begins above it; its first point is given."""

    qps: float
    least: bool = False

    def __str__(self) -> str:
        return f"{'>= ' if self.least else ''}{self.qps:,.0f}"


def recall(rows: np.ndarray, scores: np.ndarray, tenth: np.ndarray) -> float:
    """Share of right answers. rows, scores (exact): Q x K of the answers; tenth: Q, of the true last one.

    A row counts once, and is right when it scores as much as the true last one, whichever of equals it is.
    """
    order = np.argsort(rows, axis=1)
    found = np.take_along_axis(rows, order, axis=1)
    right = np.take_along_axis(scores, order, axis=1) >= (tenth - TIE * np.abs(tenth))[:, None]
    right &= found >= 0
    right[:, 1:] &= found[:, 1:] != found[:, :-1]
    return float(right.mean())


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both, by rising recall and falling speed."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.recall, -p.qps)):
        if not best or point.qps > best[-1].qps:
            best.append(point)
    return best[::-1]


def speed_at(points: Sequence[Point], wanted: float) -> Speed | None:
    """Queries a second at recall `wanted`, log speed linear in recall on the front; never extrapolated.

    None where no point reaches it.
    """
    curve = front(points)
    if not curve or curve[-1].recall < wanted:
        return None
    if curve[0].recall >= wanted:
        return Speed(curve[0].qps, least=curve[0].recall > wanted)
    for low, high in pairwise(curve):
        if low.recall < wanted <= high.recall:
            share = (wanted - low.recall) / (high.recall - low.recall)
            return Speed(math.exp((1 - share) * math.log(low.qps) + share * math.log(high.qps)))
    raise AssertionError("the front has no gap")
