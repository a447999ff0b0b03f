"""Queries to a finished graph: a walk, a scan of what a filter leaves, or the score of every node."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedsearch.index.base import Rows, Scores
from embedsearch.index.graph import walk
from embedsearch.index.graph.arrays import Queries
from embedsearch.index.graph.nodes import Nodes
from embedsearch.index.graph.regions import N_ENTRIES
from embedsearch.index.threads import in_slices
from embedsearch.vectors import Matrix

# a beam is kept sorted, so beyond this size all nodes are scored instead
_MOST_IN_BEAM = 4096
# a node met on a scan costs so much less than one met on a walk, which has to be fetched and looked up
_SCAN_GAIN = 3
_NONE = np.empty(0, np.bool_)


def search(
    nodes: Nodes, xq: Matrix, k: int, ef_search: int, allowed: NDArray[np.bool_] | None, own: Rows | None
) -> tuple[Scores, Rows]:
    """Scores and rows of the k best, both n x k; see VectorIndex.search. own: a row for each query to pass over."""
    asked = _Asked(nodes, xq, k, own)
    ef_search = max(ef_search, k)
    n_allowed = len(nodes) if allowed is None else int(allowed.sum())
    if allowed is None:
        if ef_search > _MOST_IN_BEAM:
            asked.score_all(None)
        else:
            asked.walk(ef_search, _NONE)
            asked.complete(None, min(k, len(nodes)))
    else:
        is_allowed = allowed[nodes.rows]
        # among few allowed nodes the beam has to be as much larger for as many of them to be met
        wider = int(ef_search * len(nodes) / max(n_allowed, 1))
        n_scanned_instead = wider * nodes.links.shape[1] // 2 * _SCAN_GAIN
        if k > _MOST_IN_BEAM // 2:
            asked.score_all(np.flatnonzero(is_allowed).astype(np.int32))
        elif n_allowed <= n_scanned_instead or wider > _MOST_IN_BEAM:
            asked.scan(np.flatnonzero(is_allowed).astype(np.int32), max(ef_search, 2 * k))
        else:
            asked.walk(wider, is_allowed)
            asked.complete(is_allowed, min(k, n_allowed))
    return asked.answers()


class _Asked:
    """A batch of queries in the order of the regions they fall into, and their answers."""

    def __init__(self, nodes: Nodes, xq: Matrix, k: int, own: Rows | None) -> None:
        self.nodes = nodes
        self.graph = nodes.graph
        heads, along, across, bases, place = nodes.codec.queries(xq)
        _, near = nodes.regions.nearest(place, N_ENTRIES)
        order = self.order = np.argsort(near[:, 0], kind="stable")
        passed = np.full(len(xq), -1, np.int32) if own is None else nodes.nodes_of(own[order])
        self.queries = Queries(
            heads[order], along[order], across[order], bases[order], nodes.doors[near[order]], passed
        )
        self.D = np.empty((len(xq), k), np.float32)
        self.found = np.empty((len(xq), k), np.int64)

    def walk(self, ef_search: int, is_allowed: NDArray[np.bool_]) -> None:
        n_ranked = ef_search if len(is_allowed) == 0 else max(2 * self.D.shape[1], 40)

        def answer(first: int, last: int) -> None:
            walk.walk_queries(
                self.graph, self.queries, is_allowed, ef_search, n_ranked, self.D, self.found, first, last
            )

        in_slices(answer, len(self.D))

    def scan(self, among: NDArray[np.int32], n_ranked: int) -> None:
        n_ranked = max(min(n_ranked, len(among)), 1)

        def answer(first: int, last: int) -> None:
            walk.scan_queries(self.graph, self.queries, among, n_ranked, self.D, self.found, first, last)

        in_slices(answer, len(self.D))

    def complete(self, is_allowed: NDArray[np.bool_] | None, n_expected: int) -> None:
        """Queries whose walk met fewer nodes than there are to be found are answered by the score of every node."""
        if (self.found[:, -1] >= 0).all():
            return
        expected = np.minimum(n_expected, len(self.nodes) - (self.queries.own >= 0))
        short = np.flatnonzero((self.found >= 0).sum(axis=1) < expected)
        if len(short):
            self.score_all(None if is_allowed is None else np.flatnonzero(is_allowed).astype(np.int32), short)

    def score_all(self, among: NDArray[np.int32] | None, which: NDArray[np.int64] | None = None) -> None:
        """Answers queries by the scores of all nodes `among`; exact but for what the codes leave out."""
        chosen = np.arange(len(self.nodes), dtype=np.int32) if among is None else among
        for q in range(len(self.D)) if which is None else which:
            scores = self._scores(chosen, int(q))
            cost = scores if self.graph.euclidean else -scores
            cost = np.where(chosen == self.queries.own[q], np.inf, cost)
            k = self.D.shape[1]
            best = np.argpartition(cost, k - 1)[:k] if k < len(cost) else np.arange(len(cost))
            best = best[np.argsort(cost[best], kind="stable")]
            best = best[np.isfinite(cost[best])]
            self.D[q], self.found[q] = np.nan, -1
            self.D[q, : len(best)], self.found[q, : len(best)] = scores[best], chosen[best]

    def _scores(self, chosen: NDArray[np.int32], q: int) -> Scores:
        scores = np.empty(len(chosen), np.float32)
        along, across, base = self.queries.along[q], self.queries.across[q], self.queries.bases[q]

        def answer(first: int, last: int) -> None:
            walk.score_nodes(self.graph, chosen, along, across, base, scores, first, last)

        in_slices(answer, len(chosen))
        return scores

    def answers(self) -> tuple[Scores, Rows]:
        if len(self.order) == 1 and self.found[0, -1] >= 0:  # one query, answered in full: nothing to put in order
            return self.D, self.nodes.rows[self.found].astype(np.int64)
        D, rows = np.empty_like(self.D), np.empty_like(self.found)
        D[self.order] = self.D
        rows[self.order] = np.where(self.found >= 0, self.nodes.rows[self.found], -1)
        return D, rows
