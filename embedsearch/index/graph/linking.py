"""From codes to links: the order of insertion, the batches, and a way to every node."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from embedsearch.index.graph import insert
from embedsearch.index.graph.arrays import Graph, Links
from embedsearch.index.threads import in_slices

# no batch is a larger share of all nodes: those of one batch do not see each other
_BATCH_SHARE = 0.02
_SEED = 0
_SLICES = 8  # a thread: regions differ in how long their walks take


def link(graph: Graph, entries: Links, beam: int, alpha: float, report: Callable[[int], None]) -> None:
    """Fills the links of `graph`, whose nodes lie in an order in which like ones are near each other.

    entries: int32 n x m, where a walk to each node begins. beam: of the walks. The same for every number of
    threads.
    """
    n = len(entries)
    links = graph.links.reshape(n, graph.degree)
    links[:] = -1
    doors = np.unique(entries)
    others = np.setdiff1d(np.arange(n, dtype=np.int32), doors, assume_unique=True)
    order = np.concatenate([doors, np.random.default_rng(_SEED).permutation(others)]).astype(np.int32)
    done = 0
    while done < n:
        size = min(max(done, 1), int(_BATCH_SHARE * n) + 1, n - done)
        batch = np.sort(order[done : done + size])
        links[batch] = forward = _find(graph, batch, np.ascontiguousarray(entries[batch]), beam, alpha)
        _link_back(graph, batch, forward, alpha)
        done += size
        report(size)
    _reach_all(links, doors)


def _find(graph: Graph, batch: Links, entries: Links, beam: int, alpha: float) -> Links:
    chosen = np.empty(len(batch) * graph.degree, np.int32)

    def find(first: int, last: int) -> None:
        insert.find_links(graph, batch, entries, beam, np.float32(alpha), chosen, first, last)

    in_slices(find, len(batch), slices_per_thread=_SLICES)
    return chosen.reshape(len(batch), graph.degree)


def _link_back(graph: Graph, batch: Links, forward: Links, alpha: float) -> None:
    there = forward >= 0
    sources, targets = np.repeat(batch, there.sum(axis=1)), forward[there]
    order = np.argsort(targets, kind="stable")
    targets, sources = targets[order], sources[order]
    unique, starts = np.unique(targets, return_index=True)
    starts = np.append(starts, len(targets))

    def back(first: int, last: int) -> None:
        insert.link_back(graph, unique, starts, sources, np.float32(alpha), first, last)

    in_slices(back, len(unique), slices_per_thread=_SLICES)


def _reach_all(links: Links, doors: Links) -> None:
    """Nodes that no way leads to are linked from the first of their own links, in the place of its last."""
    n, degree = links.shape
    for _ in range(3):
        lost = np.flatnonzero(~insert.reached(links.reshape(-1), degree, doors, n))
        for node in lost:
            near = links[node, 0] if links[node, 0] >= 0 else doors[0]
            places = np.flatnonzero(links[near] < 0)
            links[near, places[0] if len(places) else degree - 1] = node
        if len(lost) == 0:
            return
