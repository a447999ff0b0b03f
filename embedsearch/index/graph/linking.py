"""From codes to links: the order of insertion, the batches, and a way to every node."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from embedsearch.index.graph import insert, reaching
from embedsearch.index.graph.arrays import Graph, Links
from embedsearch.index.threads import in_slices

# no batch is a larger share of all nodes: those of one batch do not see each other
_BATCH_SHARE = 0.02
_SEED = 0


class Linker:
    """Links the nodes of a graph, which lie in an order in which like ones are near each other.

    The same for every number of threads.
    """

    def __init__(self, graph: Graph, entries: Links, beam: int, alpha: float) -> None:
        """entries: int32 n x m, where a walk to each node begins. beam: of the walks. Nothing is linked yet."""
        self._graph = graph
        self._entries = entries
        self._beam = beam
        self._alpha = alpha
        self._links = graph.links.reshape(len(entries), graph.degree)
        self._links[:] = -1
        self._n_agreed = np.zeros(len(entries), np.int32)  # of each node's links, see insert.py
        self._n_linked = 0
        self._nodes = np.empty(0, np.int32)

    def link(self, nodes: Links, report: Callable[[int], None]) -> None:
        """Links `nodes` (int32, ascending) with those that were linked before and one another. The first call has
        to be given every node that is an entry."""
        n = len(self._entries)
        if self._n_linked == 0:
            doors = np.unique(self._entries)
            others = np.random.default_rng(_SEED).permutation(np.setdiff1d(nodes, doors, assume_unique=True))
            order = np.concatenate([doors, others]).astype(np.int32)
        else:
            order = nodes
        done = 0
        while done < len(order):
            size = min(max(self._n_linked, 1), int(_BATCH_SHARE * n) + 1, len(order) - done)
            batch = np.sort(order[done : done + size])
            begin = np.ascontiguousarray(self._entries[batch])
            self._links[batch] = forward = _find(self._graph, batch, begin, self._beam, self._alpha, self._n_agreed)
            _link_back(self._graph, batch, forward, self._alpha, self._n_agreed)
            done += size
            self._n_linked += size
            report(size)
        self._nodes = np.union1d(self._nodes, nodes)  # those of before, too, may have lost the way that led to them
        reaching.reach_all(self._graph.links, self._graph.degree, np.unique(self._entries), self._nodes, self._n_agreed)


def _find(graph: Graph, batch: Links, entries: Links, beam: int, alpha: float, n_agreed: Links) -> Links:
    chosen = np.empty(len(batch) * graph.degree, np.int32)

    def find(first: int, last: int) -> None:
        insert.find_links(graph, batch, entries, beam, np.float32(alpha), chosen, n_agreed, first, last)

    in_slices(find, len(batch))
    return chosen.reshape(len(batch), graph.degree)


def _link_back(graph: Graph, batch: Links, forward: Links, alpha: float, n_agreed: Links) -> None:
    there = forward >= 0
    sources, targets = np.repeat(batch, there.sum(axis=1)), forward[there]
    order = np.argsort(targets, kind="stable")
    targets, sources = targets[order], sources[order]
    unique, starts = np.unique(targets, return_index=True)
    starts = np.append(starts, len(targets))

    def back(first: int, last: int) -> None:
        insert.link_back(graph, unique, starts, sources, np.float32(alpha), n_agreed, first, last)

    in_slices(back, len(unique))
