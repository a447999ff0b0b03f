"""What `filters.py` asks for: vectors, columns, and conditions with the queries that ask under them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from data import gloss_kinds
from search_sets import load_set, order_of, word_vectors

N_QUERIES, N_WORDS, N_WORD_KINDS = 1000, 100_000, 8
# lexicographer's files of WordNet, see data.gloss_kinds
_TEXT_KINDS = {"artifacts": "= 6", "animals": "= 5", "food": "= 13", "nouns but acts and artifacts": "BETWEEN 7 AND 28"}


@dataclass(frozen=True)
class Condition:
    """where: SQL, or None. allowed: bool per row. asking: bool per query."""

    name: str
    where: str | None
    allowed: np.ndarray
    asking: np.ndarray


@dataclass(frozen=True)
class FilterSet:
    """xb, xq: float32. cost: float32 queries x rows, lower is better."""

    name: str
    metric: str
    xb: np.ndarray
    xq: np.ndarray
    columns: dict[str, np.ndarray]
    conditions: list[Condition]
    cost: np.ndarray


def _texts(most: int) -> FilterSet:
    data = load_set("texts", most or None)
    kinds = np.array(list(gloss_kinds().values()))
    kinds = kinds[order_of(len(kinds))]
    kind, asking = kinds[len(data.xq) :][: len(data.xb)], kinds[:N_QUERIES]
    chosen = {name: (f"kind {sql}", _holds(sql, kind), ~_holds(sql, asking)) for name, sql in _TEXT_KINDS.items()}
    return _set("texts, cosine", "cosine", data.xb, data.xq[:N_QUERIES], kind, chosen)


def _holds(sql: str, kind: np.ndarray) -> np.ndarray:
    if sql.startswith("="):
        return kind == int(sql[1:])
    _, first, _, last = sql.split()
    return (kind >= int(first)) & (kind <= int(last))


def _words(most: int, metric: str) -> FilterSet:
    import faiss

    x = word_vectors()
    x = x[order_of(len(x))[: N_QUERIES + min(most or N_WORDS, N_WORDS)]]
    regions = faiss.Kmeans(x.shape[1], N_WORD_KINDS, niter=10, seed=1, spherical=True)
    directions = x / np.linalg.norm(x, axis=1, keepdims=True)
    regions.train(directions)
    kinds = regions.index.search(directions, 1)[1][:, 0]
    kind, asking = kinds[N_QUERIES:], kinds[:N_QUERIES]
    chosen = {f"region {number}": (f"kind = {number}", kind == number, asking != number) for number in range(3)} | {
        "four regions": ("kind < 4", kind < 4, asking >= 4)
    }
    return _set(f"words, {metric}", metric, x[N_QUERIES:], x[:N_QUERIES], kind, chosen)


def _set(
    name: str,
    metric: str,
    xb: np.ndarray,
    xq: np.ndarray,
    kind: np.ndarray,
    chosen: dict[str, tuple[str, np.ndarray, np.ndarray]],
) -> FilterSet:
    n = len(xb)
    topic = np.empty(n, np.int64)
    topic[np.argsort(-(xb @ xb[0]), kind="stable")] = np.arange(n)
    columns = {"chance": np.random.default_rng(7).permutation(n), "topic": topic, "kind": kind}
    everyone = np.ones(len(xq), bool)
    conditions = [Condition("none", None, np.ones(n, bool), everyone)]
    for column in ("chance", "topic"):
        for left in (n // 2, n // 10, n // 100, n // 1000, 3):
            conditions.append(Condition(column, f"{column} < {left}", columns[column] < left, everyone))
    conditions += [Condition(f"kind: {about}", *which) for about, which in chosen.items()]
    cost = -(xq @ xb.T)
    if metric == "l2":
        cost = 2 * cost + (xb**2).sum(axis=1) + (xq**2).sum(axis=1)[:, None]
    return FilterSet(name, metric, xb, xq, columns, conditions, cost)


# by name; each takes how many rows it may have at most, 0 for all
SETS: dict[str, Callable[[int], FilterSet]] = {
    "texts": _texts,
    "l2": partial(_words, metric="l2"),
    "ip": partial(_words, metric="ip"),
}
