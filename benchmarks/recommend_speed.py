"""Users a second of every strategy, beside implicit on the same factors."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import embedsearch as es

N, DIM, USERS, LIKED, K = 100_000, 128, 1000, 50, 10
LEAST_PER_S, LEAST_RATIO = 2000, 1.0
STRATEGIES = ("auto", "centroid", "agreement", "max", "clusters")
# contents are compared by cosine, where `auto` is another strategy
INDEXES = {
    "flat": ("flat", "ip", STRATEGIES),
    "graph": ("graph", "ip", STRATEGIES),
    "flat under cosine": ("flat", "cosine", ("auto",)),
}


def speed(folder: Path, rounds: int, say: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """The lines of the page, and what was missed. Everybody has a turn in each round, the first one changes."""
    factors, users, matrix = _made()
    calls: dict[str, Callable[[], Any]] = {}
    peer = _implicit(factors, users, matrix)
    if peer is None:
        say("implicit is left out: pip install implicit")
    else:
        calls["implicit, recommend"] = peer
    costs: dict[str, float] = {}
    for family, (index_type, metric, strategies) in INDEXES.items():
        index = es.build(factors, folder / f"speed-{index_type}-{metric}", metric=metric, index=index_type)
        rec = es.Recommender(index)
        began = time.perf_counter()
        rec.recommend_many(matrix, K, strategy="agreement")
        costs[f"{family}, of these users when first asked for"] = time.perf_counter() - began
        if index_type != "flat":  # every row against every other
            began = time.perf_counter()
            rec = es.Recommender(index)
            rec.save_neighbours()
            costs[f"{family}, of all items by `save_neighbours`"] = time.perf_counter() - began
        say(f"{family} is ready: " + ", ".join(f"{name} {took:.1f} s" for name, took in costs.items()))
        for strategy in strategies:
            calls[f"{family}, {strategy}"] = lambda rec=rec, strategy=strategy: rec.recommend_many(
                matrix, K, strategy=strategy
            )
    answers = {name: call() for name, call in calls.items()}  # imports, compiled code, vectors in memory
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            began = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - began)
    return _lines(answers, seconds, costs, rounds)


def _made() -> tuple[np.ndarray, np.ndarray, Any]:
    """Factors of low intrinsic dimension, users of the same space, and for each of them 50 of the 1,000 items with
    the largest products: what they like lies where answers do."""
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(0)
    space = rng.normal(size=(16, DIM))
    factors = (rng.normal(size=(N, 16)) @ space + 0.3 * rng.normal(size=(N, DIM))).astype(np.float32)
    users = (rng.normal(size=(USERS, 16)) @ space).astype(np.float32)
    near = np.argpartition(-(users @ factors.T), 1000, axis=1)[:, :1000]
    liked = np.sort(rng.permuted(near, axis=1)[:, :LIKED], axis=1)
    starts = np.arange(0, USERS * LIKED + 1, LIKED)
    return factors, users, csr_matrix((np.ones(USERS * LIKED, np.float32), liked.ravel(), starts), shape=(USERS, N))


def _implicit(factors: np.ndarray, users: np.ndarray, matrix: Any) -> Callable[[], Any] | None:
    """implicit's `recommend` without what is liked, with BLAS on one thread, as it advises; its own threads do the
    work."""
    try:
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    blas = ThreadpoolController()
    with blas.limit(limits=1, user_api="blas"):
        model = AlternatingLeastSquares(factors=DIM)
    model.item_factors, model.user_factors = factors, users
    everybody = np.arange(USERS)

    def call() -> Any:
        with blas.limit(limits=1, user_api="blas"):
            return model.recommend(everybody, matrix, N=K, filter_already_liked_items=True)

    return call


def _lines(
    answers: dict[str, Any], seconds: dict[str, list[float]], costs: dict[str, float], rounds: int
) -> tuple[list[str], list[str]]:
    peer = seconds.get("implicit, recommend")
    lines = [
        "## Speed",
        "",
        f"{USERS:,} users with {LIKED} liked items each, {N:,} x {DIM} factors under ip (or cosine, "
        f"where a row says so), k = {K}, what is liked "
        f"left out; medians of "
        f"{rounds} rounds in which everybody takes turns, and the middle half of them. To implicit: the median of "
        f"the ratios "
        "within a round. The same answers: how many of the ten are also in those of the exact index. `flat` is what "
        "`build` "
        "chooses for this size.",
        "",
        "| | users/s | middle half | to implicit | of the exact ten |",
        "|---|---|---|---|---|",
    ]
    missed, slower = [], []
    for name, taken in seconds.items():
        rate = USERS / statistics.median(taken)
        low, high = (USERS / value for value in np.percentile(taken, [75, 25]))
        ratio = None if peer is None else statistics.median(p / t for p, t in zip(peer, taken, strict=True))
        family, _, strategy = name.partition(", ")
        exact = answers.get(f"flat, {strategy}")
        same = "" if exact is None or family != "graph" else f"{_shared(answers[name][0], exact[0]):.3f}"
        told = "" if ratio is None else f"{ratio:.2f}"
        lines.append(f"| {name} | {rate:,.0f} | {low:,.0f} to {high:,.0f} | {told} | {same} |")
        if ratio is not None and ratio < 1:
            slower.append(f"*{name}*")
        if strategy == "auto":
            if rate < LEAST_PER_S:
                missed.append(f"{name}: {rate:,.0f} users/s, below {LEAST_PER_S:,}")
            if ratio is not None and ratio < LEAST_RATIO:
                missed.append(f"{name}: {ratio:.2f} of implicit")
    lines += ["", f"Targets of auto, for its medians: {LEAST_PER_S:,} users/s, and {LEAST_RATIO:g} of implicit."]
    if peer is not None:
        lines.append(f"Slower than implicit: {', '.join(slower) or 'none'}.")
    told = "; ".join(f"{name} {took:.1f} s" for name, took in costs.items())
    lines += ["", f"To find the neighbours that agreement and max go by, once: {told}."]
    return lines, missed


def _shared(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, exact, strict=True)]))
