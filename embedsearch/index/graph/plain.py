"""The walk once more, in numpy: the same nodes, found some forty times slower, without a compiler to load.

A process that asks one question, as a command does, has its answer before numba is imported. Tests hold the
compiled walk against this one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.index.graph.arrays import Graph, Queries

_EXPANDED = np.uint64(1)


def walk_query(graph: Graph, query: NDArray[np.uint8], entries: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    """The nodes in the beam of one query when its walk ends, nearest first; see walk.walk."""
    heads = graph.heads.reshape(-1, graph.width)
    links = graph.links.reshape(-1, graph.degree)
    seen = np.zeros(len(heads), np.bool_)
    beam = np.empty(0, np.uint64)
    met = np.unique(entries)
    while True:
        seen[met] = True
        distances = ((heads[met].astype(np.int32) - query.astype(np.int32)) ** 2).sum(axis=1)
        keys = (distances.astype(np.uint64) << np.uint64(32)) | (met.astype(np.uint64) << np.uint64(1))
        beam = np.sort(np.concatenate([beam, keys]))[:size]
        waiting = np.flatnonzero((beam & _EXPANDED) == 0)
        if len(waiting) == 0:
            return _nodes(beam)
        nearest = waiting[0]
        beam[nearest] |= _EXPANDED
        near = links[_nodes(beam[nearest : nearest + 1])[0]]
        near = near[near >= 0]
        met = near[~seen[near]]


def rank_query(
    graph: Graph, queries: Queries, q: int, nodes: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and nodes of the k best of `nodes` and the long ones, NaN and -1 where there are none; see
    walk.rank_best."""
    nodes = np.union1d(nodes, graph.long)
    heads = graph.heads.reshape(-1, graph.width)[nodes, : queries.along.shape[1]].astype(np.float32) - 128
    residuals = graph.residuals.reshape(-1, graph.dim)[nodes].astype(np.float32)
    products = graph.step * (heads @ queries.along[q]) + graph.scales[nodes] * (residuals @ queries.across[q])
    scores = queries.bases[q] + products
    if graph.euclidean:
        scores = np.maximum(queries.bases[q] + graph.norms[nodes] - 2 * products, 0)
    best = np.argsort(scores if graph.euclidean else -scores, kind="stable")[:k]
    D, found = np.full(k, np.nan, np.float32), np.full(k, -1, np.int64)
    D[: len(best)], found[: len(best)] = scores[best], nodes[best]
    return D, found


def _nodes(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    return ((keys & np.uint64(0xFFFFFFFF)) >> np.uint64(1)).astype(np.int64)
