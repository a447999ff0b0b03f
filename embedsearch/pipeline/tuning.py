"""Keeping a promise: the cheapest search that finds what was promised, and the proof of it.

The search parameters are chosen on one half of the queries and measured on the other. A query is a row of the
store that no training looked at, and is no answer to itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from embedsearch.errors import PromiseError
from embedsearch.evaluate import mean_with_interval, recall_with_ties
from embedsearch.index import IndexRequest, VectorIndex
from embedsearch.index.choose import USUAL_RECALL
from embedsearch.pipeline.truth import Truth
from embedsearch.types import Progress

K = 10
DEPTH = 4 * K  # exact answers kept for each query, so that ties with the tenth can be told
_N_ALONE = 200  # queries that are timed one by one
_ENOUGH = 0.9995  # no more effort is tried beyond
_LEVEL_POINTS, _LEVEL_GAIN = 3, 0.0002


@dataclass(frozen=True, slots=True)
class Point:
    """What one effort gives: recall@10 and its 95 % interval, queries a second in batches."""

    search: dict[str, int]
    recall: float
    low: float
    high: float
    queries_per_s: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """The chosen search parameters, what they were measured to do on queries they were not chosen by, and the
    whole curve that they were chosen from. latency_ms: the median of single queries."""

    search: dict[str, int]
    measured: Point
    latency_ms: float
    n_queries: int
    curve: list[Point]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def tune(
    index: VectorIndex, truth: Truth, request: IndexRequest, usual: Mapping[str, int], progress: Progress
) -> Tuned:
    """Raises PromiseError when no effort keeps what `request` promises.

    usual: search parameters of an index that offers no efforts.
    """
    half = len(truth) // 2
    choosing, proving = truth.part(0, half), truth.part(half, len(truth))
    efforts = index.efforts(K) or [dict(usual)]
    wanted = USUAL_RECALL if request.recall is None else request.recall
    progress.stage("tuning", len(efforts))
    curve: list[Point] = []
    for effort in efforts:
        curve.append(_measure(index, choosing, effort))
        progress.advance(1)
        if curve[-1].recall >= _ENOUGH or _is_level(curve, wanted):
            break
    # so that a lucky half of the queries does not decide: the lower end of the interval has to reach the promise
    enough = [point for point in curve if point.low >= wanted or point.recall >= _ENOUGH]
    enough = enough or [point for point in curve if point.recall >= wanted]
    best = max(curve, key=lambda point: point.recall)
    for point in enough or ([] if request.recall is not None else [best]):
        proof = _measure(index, proving, point.search)
        if proof.recall >= wanted or request.recall is None:
            latency_ms = _latency_ms(index, proving, point.search)
            if request.latency_ms is not None and latency_ms > request.latency_ms:
                raise PromiseError(
                    f"recall {wanted:g} takes {latency_ms:.2f} ms a query here, more than --latency-ms "
                    f"{request.latency_ms:g}; ask for less recall ({_told(curve)}) or more time"
                )
            return Tuned(point.search, proof, latency_ms, len(proving), curve)
    raise PromiseError(
        f"recall {wanted:g} cannot be kept by {index.family}: its most thorough search finds {best.recall:.4f} "
        f"({best.low:.4f} to {best.high:.4f}) here; --index flat keeps any recall, or ask for at most "
        f"--recall {np.floor(best.low * 1000) / 1000:g}"
    )


def _is_level(curve: list[Point], wanted: float) -> bool:
    """Whether what was promised is found, and the last few efforts found no more than the one before them."""
    if len(curve) <= _LEVEL_POINTS or curve[-1].low < wanted:
        return False
    return curve[-1].recall - curve[-1 - _LEVEL_POINTS].recall <= _LEVEL_GAIN


def _measure(index: VectorIndex, truth: Truth, search: Mapping[str, int]) -> Point:
    began = time.perf_counter()
    _, rows = index.search_others(truth.xq, truth.own, min(K, truth.rows.shape[1]), search)
    seconds = max(time.perf_counter() - began, 1e-9)
    recalls = recall_with_ties(rows, truth.rows, truth.scores, index.metric.higher_is_better)
    mean, low, high = (round(value, 5) for value in mean_with_interval(recalls))
    return Point(dict(search), mean, low, high, round(len(truth) / seconds, 1))


def _latency_ms(index: VectorIndex, truth: Truth, search: Mapping[str, int]) -> float:
    times = []
    for row in range(min(len(truth), _N_ALONE)):
        began = time.perf_counter()
        index.search(truth.xq[row : row + 1], min(K, len(index)), search)
        times.append(time.perf_counter() - began)
    return round(float(np.median(times)) * 1000, 4)


def _told(curve: list[Point]) -> str:
    return ", ".join(f"{point.recall:.3f}" for point in curve[:6])


def at_recall(curve: list[dict[str, Any]], recall: float) -> dict[str, int] | None:
    """Search parameters of the cheapest point of a stored curve that finds `recall`, None when none does."""
    for point in curve:
        if point["recall"] >= recall:
            return {name: int(value) for name, value in point["search"].items()}
    return None
