"""Keeping a promise: the cheapest search that finds what was promised, and the proof of it.

The search parameters are chosen on one half of the queries and measured on the other. A query is a row of the
store that no training looked at, and is no answer to itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from embedsearch.errors import PromiseError
from embedsearch.evaluate import mean_with_interval
from embedsearch.index import IndexRequest, VectorIndex
from embedsearch.index.choose import USUAL_RECALL
from embedsearch.index.growth import K_GROWTH
from embedsearch.pipeline.truth import Truth
from embedsearch.types import Progress
from embedsearch.vectors import Matrix

K = 10
K_WIDE = 100  # answers for which the growth of the effort is measured
DEPTH = K_WIDE + K  # exact answers kept for each query: some more than that, so that ties with the last can be told
N_TIMED, _N_TIMED_LEAST = 200, 5  # queries that are timed one by one
_TIMING_MS = 300.0  # that timing takes where a query takes long
_ENOUGH = 0.9995  # no more effort is tried beyond
_LEVEL_POINTS, _LEVEL_GAIN = 2, 0.0005


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
    whole curve that they were chosen from. latency_ms: the median of single queries. wide: what the same search finds
    of a hundred answers (recall@100), where that was measured; its effort is the one for ten, with what makes it grow.
    """

    search: dict[str, int]
    measured: Point
    latency_ms: float
    n_queries: int
    curve: list[Point]
    wide: Point | None = None

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
    best = max(curve, key=lambda point: point.recall)
    for point in _that_reach(curve, wanted) or ([] if request.recall is not None else [best]):
        proof = _measure(index, proving, point.search)
        if proof.recall >= wanted or request.recall is None:
            latency_ms = _latency_in_time(index, proving.xq, point.search, curve, request)
            search = _growing(index, choosing, point.search, wanted)
            wide = _measure(index, proving, search, K_WIDE) if _has(proving, K_WIDE) else None
            return Tuned(search, proof, latency_ms, len(proving), curve, wide)
    raise _too_little(index, wanted, best, _measure(index, proving, best.search))


def confirm(index: VectorIndex, truth: Truth, request: IndexRequest, tuned: Tuned) -> Tuned:
    """The same search, or the next effort that finds as much, now that what was held out is in the index.

    truth: of the queries, with one another. A graph that has taken more rows may have lost ways; rows as queries seem
    to find more than new ones would, so this can refute what was measured, and not prove it. Raises PromiseError when
    no effort finds what was promised.
    """
    wanted = min(USUAL_RECALL if request.recall is None else request.recall, tuned.measured.recall)
    growth = {name: value for name, value in tuned.search.items() if name == K_GROWTH}
    curve, more = list(tuned.curve), index.efforts(K)[len(tuned.curve) :]
    at = first = next(place for place, point in enumerate(curve) if point.search == tuned.measured.search)
    while True:
        held = _measure(index, truth, curve[at].search if at < len(curve) else more.pop(0), held=True)
        curve[at:] = [_refuted(curve[at], held), *curve[at + 1 :]] if at < len(curve) else [held]
        if curve[at].recall >= wanted or (at + 1 == len(curve) and not more):
            break
        at += 1
    if curve[at].recall < wanted:
        best = max(curve, key=lambda point: point.recall)
        if request.recall is not None:
            raise _too_little(index, request.recall, best, best)
        at = curve.index(best)
    elif at == first:
        return tuned
    search = {**curve[at].search, **growth}
    wide = None if tuned.wide is None else _measure(index, truth, search, K_WIDE, held=True)
    latency_ms = _latency_in_time(index, truth.xq, search, curve, request)
    return replace(tuned, search=search, measured=curve[at], latency_ms=latency_ms, curve=curve, wide=wide)


def _refuted(point: Point, held: Point) -> Point:
    """What was measured, unless less is found now."""
    return point if held.recall >= point.recall else replace(point, recall=held.recall, low=held.low, high=held.high)


def _growing(index: VectorIndex, truth: Truth, search: Mapping[str, int], wanted: float) -> dict[str, int]:
    """`search`, with the least growth by which a hundred answers are found as well as ten."""
    if not index.growths or not _has(truth, K_WIDE):
        return dict(search)
    found: list[Point] = []
    for growth in index.growths:
        found.append(_measure(index, truth, {**search, K_GROWTH: growth}, K_WIDE))
        if found[-1].recall >= wanted:
            break
    most = max(point.recall for point in found)
    return next(point.search for point in found if point.recall >= min(wanted, most - _LEVEL_GAIN))


def _has(truth: Truth, k: int) -> bool:
    return bool(truth.rows.shape[1] > k)


def _too_little(index: VectorIndex, wanted: float, best: Point, proof: Point) -> PromiseError:
    sure = np.floor(min(best.low, proof.recall) * 1000) / 1000
    found = f"{min(best.recall, proof.recall):.4f} ({proof.low:.4f} to {proof.high:.4f})"
    return PromiseError(
        f"recall {wanted:g} cannot be kept by {index.family}: its most thorough search finds {found} here; "
        f"--index flat keeps any recall, or ask for at most --recall {sure:g}"
    )


def _is_level(curve: list[Point], wanted: float) -> bool:
    """Whether what was promised is found, and the last few efforts found no more than the one before them."""
    if len(curve) <= _LEVEL_POINTS or curve[-1].low < wanted:
        return False
    return curve[-1].recall - curve[-1 - _LEVEL_POINTS].recall <= _LEVEL_GAIN


def time_exact(index: VectorIndex, xq: Matrix, request: IndexRequest) -> Tuned:
    """How fast an exact index is. Raises PromiseError when it is slower than `request` allows."""
    index.search(xq[:1], 1, {})  # what is loaded first is no part of a search
    alone_ms = _latency_ms(index, xq, {})
    if request.latency_ms is not None and alone_ms > request.latency_ms:
        raise PromiseError(
            f"exact search takes {alone_ms:.2f} ms a query here, more than --latency-ms {request.latency_ms:g}; allow "
            "more time, or take --index graph"
        )
    at_once = xq[: max(int(_TIMING_MS / max(alone_ms, 1e-3)), 1)]
    began = time.perf_counter()
    index.search(at_once, min(K, len(index)), {})
    speed = len(at_once) / max(time.perf_counter() - began, 1e-9)
    return Tuned({}, Point({}, 1.0, 1.0, 1.0, round(speed, 1)), alone_ms, 0, [])


def _measure(index: VectorIndex, truth: Truth, search: Mapping[str, int], k: int = K, *, held: bool = False) -> Point:
    """held: the index holds the queries, which were held out before."""
    index.search(truth.xq[:1], 1, search)  # what is loaded or compiled first is no part of a search
    began = time.perf_counter()
    answer = index.search_but_own if held else index.search_others
    _, rows = answer(truth.xq, truth.own, min(k, truth.rows.shape[1]), search)
    seconds = max(time.perf_counter() - began, 1e-9)
    mean, low, high = (round(value, 5) for value in mean_with_interval(truth.recall_of(rows)))
    return Point(dict(search), mean, low, high, round(len(truth) / seconds, 1))


def _latency_ms(index: VectorIndex, xq: Matrix, search: Mapping[str, int]) -> float:
    times: list[float] = []
    while len(times) < min(len(xq), N_TIMED) and (len(times) < _N_TIMED_LEAST or sum(times) * 1000 < _TIMING_MS):
        row = len(times)
        began = time.perf_counter()
        index.search(xq[row : row + 1], min(K, len(index)), search)
        times.append(time.perf_counter() - began)
    return round(float(np.median(times)) * 1000, 4)


def _latency_in_time(
    index: VectorIndex, xq: Matrix, search: Mapping[str, int], curve: list[Point], request: IndexRequest
) -> float:
    """Raises PromiseError where it is more than `request` allows."""
    latency_ms = _latency_ms(index, xq, search)
    if request.latency_ms is not None and latency_ms > request.latency_ms:
        wanted = USUAL_RECALL if request.recall is None else request.recall
        raise PromiseError(
            f"recall {wanted:g} takes {latency_ms:.2f} ms a query here, more than --latency-ms "
            f"{request.latency_ms:g}; {_in_time(index, xq, curve, wanted, request.latency_ms)}"
        )
    return latency_ms


def _in_time(index: VectorIndex, xq: Matrix, curve: list[Point], wanted: float, limit_ms: float) -> str:
    """What a user may ask for instead: the most recall below `wanted` whose search takes no longer than `limit_ms`."""
    for point in sorted((point for point in curve if point.low < wanted), key=lambda point: -point.low):
        latency_ms = _latency_ms(index, xq, point.search)
        if latency_ms <= limit_ms:
            return f"--recall {np.floor(point.low * 1000) / 1000:g} takes {latency_ms:.2f} ms, or allow more time"
    return "no search with less recall was in time either, so allow more time"


def stored_curve(tuned: Mapping[str, Any] | None) -> list[Point]:
    """The curve of a manifest's `tuned`."""
    return [] if tuned is None else [Point(**point) for point in tuned["curve"]]


def at_recall(curve: list[Point], recall: float) -> dict[str, int] | None:
    """Search parameters of the cheapest point that finds `recall`, None when none does."""
    found = _that_reach(curve, recall)
    return found[0].search if found else None


def _that_reach(curve: list[Point], recall: float) -> list[Point]:
    """The points that find `recall`: by the lower end of the interval, so that a lucky half of the queries does not
    decide; where none does, by the mean."""
    sure = [point for point in curve if point.low >= recall or point.recall >= max(recall, _ENOUGH)]
    return sure or [point for point in curve if point.recall >= recall]
