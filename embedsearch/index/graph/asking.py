"""Queries to a finished graph: a walk, a scan of what a filter leaves, or the score of every node."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedsearch.index.allowed import LEAST_SHARE, SPARE
from embedsearch.index.base import Rows, Scores
from embedsearch.index.graph import plain
from embedsearch.index.graph.arrays import Queries
from embedsearch.index.graph.nodes import Nodes
from embedsearch.index.graph.regions import N_ENTRIES
from embedsearch.index.growth import MOST_IN_BEAM
from embedsearch.index.threads import in_slices
from embedsearch.index.widening import probe_until_settled
from embedsearch.types import Metric
from embedsearch.vectors import Matrix

# a node met on a scan costs so much less than one met on a walk, which has to be fetched and looked up
_SCAN_GAIN = 3
# what a scan finds may lie far from the query, where heads tell less than they do beside it: so many times the beam is
# ranked. Of inner products all is: queries lie far from all rows.
_SCAN_RANKED = 8
# so many queries of a process are walked in numpy: loading the compiled walk takes as long as some hundred of them
_n_plain_left = 8
_LEAST = 16  # queries that are prepared at once
_NONE = np.empty(0, np.bool_)


@dataclass(frozen=True, slots=True)
class Among:
    """The nodes that may be answers: is_allowed, bool per node, and how many they are."""

    is_allowed: NDArray[np.bool_]
    n: int

    @classmethod
    def of(cls, nodes: Nodes, allowed: NDArray[np.bool_]) -> Self:
        """allowed: bool per row."""
        return cls(allowed[nodes.rows], int(allowed.sum()))

    @property
    def nodes(self) -> NDArray[np.int32]:
        return np.flatnonzero(self.is_allowed).astype(np.int32)


def search(nodes: Nodes, xq: Matrix, k: int, ef_search: int, among: Among | None) -> tuple[Scores, Rows]:
    """Scores and rows of the k best, both n x k; see VectorIndex.search."""
    ef_search = max(ef_search, k)
    plain_walk = among is None and _may_be_plain(len(xq))
    if len(xq) == 1 and among is None and ef_search <= MOST_IN_BEAM and not plain_walk:
        from embedsearch.index.graph.alone import answer_alone

        D, found = np.empty((1, k), np.float32), np.empty((1, k), np.int64)
        answer_alone(nodes.space, nodes.graph, xq, min(N_ENTRIES, len(nodes.regions)), ef_search, D, found)
        if found[0, -1] >= 0:
            return D, nodes.rows[found].astype(np.int64)
    asked = _Asked(nodes, xq, k, plain_walk=plain_walk)
    if among is None:
        if ef_search > MOST_IN_BEAM:
            asked.score_all(None)
        else:
            asked.walk(ef_search, ef_search, _NONE)
            asked.complete()
    else:
        n_ranked = _SCAN_RANKED * max(ef_search, k)
        # among few allowed nodes the beam has to be as much larger for as many of them to be met; where they lie
        # elsewhere than the query it finds fewer, and all that are allowed are compared
        wider = int(SPARE * ef_search * len(nodes) / max(among.n, 1))
        # a walk whose beam is as large as this meets so many nodes that comparing all that are allowed takes no longer
        most = min(2 * among.n // (nodes.links.shape[1] * _SCAN_GAIN), MOST_IN_BEAM)
        is_far = nodes.codec.metric is Metric.IP
        if n_ranked > MOST_IN_BEAM or (is_far and wider >= most):
            asked.score_all(among.nodes)
        elif wider >= most:
            asked.scan(among.nodes, n_ranked)
        elif is_far:
            # so how many near a query are allowed says little about where the best are
            asked.walk_until_settled(among, wider, most, max(ef_search, 2 * k), int(LEAST_SHARE * ef_search))
        else:
            asked.walk(wider, max(ef_search, 2 * k), among.is_allowed, least=int(LEAST_SHARE * ef_search))
            elsewhere = np.flatnonzero(asked.found[:, -1] < 0)
            if len(elsewhere):
                asked.scan(among.nodes, n_ranked, elsewhere)
    return asked.answers()


def _may_be_plain(n: int) -> bool:
    """Whether n queries are among the first few of a process that has not loaded the compiled walk."""
    global _n_plain_left
    if n > _n_plain_left or "embedsearch.index.graph.walk" in sys.modules:
        return False
    _n_plain_left -= n
    return True


class _Asked:
    """A batch of queries and their answers. order: of the regions that the queries fall into, in which they are
    answered, so that one finds in the cache what the one before it read."""

    def __init__(self, nodes: Nodes, xq: Matrix, k: int, *, plain_walk: bool = False) -> None:
        self.nodes = nodes
        self.graph = nodes.graph
        self.D = np.empty((len(xq), k), np.float32)
        self.found = np.empty((len(xq), k), np.int64)
        self._is_plain = plain_walk
        if plain_walk:
            heads, along, across, bases, place = nodes.codec.queries(xq)
            _, near = nodes.regions.nearest(place, N_ENTRIES)
            self.queries, self.order = Queries(heads, along, across, bases, nodes.doors[near]), np.arange(len(xq))
            return
        from embedsearch.index.graph import prepare

        n, codec, n_entries = len(xq), nodes.codec, min(N_ENTRIES, len(nodes.regions))
        self.queries = Queries(
            np.empty((n, codec.width), np.uint8),
            np.empty((n, codec.width), np.float32),
            np.empty((n, codec.dim), np.float32),
            np.empty(n, np.float32),
            np.empty((n, n_entries), np.int32),
        )
        region = np.empty(n, np.int64)

        def fill(first: int, last: int) -> None:
            prepare.prepare_queries(nodes.space, xq, self.queries, region, first, last)

        in_slices(fill, n, least=_LEAST)
        self.order = np.argsort(region, kind="stable")

    def walk(
        self,
        size: int,
        n_ranked: int,
        is_allowed: NDArray[np.bool_],
        least: int = 0,
        which: NDArray[np.int64] | None = None,
    ) -> None:
        order = self.order if which is None else self.order[np.isin(self.order, which)]
        if self._is_plain:
            for q in range(len(self.D)):
                nodes = plain.walk_query(self.graph, self.queries.heads[q], self.queries.entries[q], size)
                k = self.D.shape[1]
                self.D[q], self.found[q] = plain.rank_query(self.graph, self.queries, q, nodes[:n_ranked], k)
            return
        from embedsearch.index.graph import walk

        def answer(first: int, last: int) -> None:
            walk.walk_queries(
                self.graph, self.queries, order, is_allowed, size, n_ranked, least, self.D, self.found, first, last
            )

        in_slices(answer, len(order))

    def walk_until_settled(self, among: Among, size: int, most: int, n_ranked: int, least: int) -> None:
        """Walks with a beam of `size`, and larger ones; see `probe_until_settled`."""
        nodes = among.nodes

        def probe(those: Rows, wide: int, times: int) -> tuple[Scores, Rows]:
            self.walk(wide, times * n_ranked, among.is_allowed, times * least, those)
            return self.D[those], self.found[those]

        def scan(those: Rows) -> tuple[Scores, Rows]:
            self.score_all(nodes, those)
            return self.D[those], self.found[those]

        first = np.full(len(self.D), size)
        self.D, self.found = probe_until_settled(probe, scan, first, most, self.D.shape[1])

    def scan(self, among: NDArray[np.int32], n_ranked: int, which: NDArray[np.int64] | None = None) -> None:
        from embedsearch.index.graph import walk

        n_ranked = max(min(n_ranked, len(among)), 1)
        order = self.order if which is None else which

        def answer(first: int, last: int) -> None:
            walk.scan_queries(self.graph, self.queries, order, among, n_ranked, self.D, self.found, first, last)

        in_slices(answer, len(order))

    def complete(self) -> None:
        """Queries whose walk met fewer nodes than k are answered by the score of every node."""
        short = np.flatnonzero(self.found[:, -1] < 0)
        if len(short):
            self.score_all(None, short)

    def score_all(self, among: NDArray[np.int32] | None, which: NDArray[np.int64] | None = None) -> None:
        """Answers queries by the scores of all nodes `among`; exact but for what the codes leave out."""
        chosen = self.nodes.answerable if among is None else among
        for q in range(len(self.D)) if which is None else which:
            scores = self._scores(chosen, int(q))
            cost = scores if self.graph.euclidean else -scores
            k = self.D.shape[1]
            best = np.argpartition(cost, k - 1)[:k] if k < len(cost) else np.arange(len(cost))
            best = best[np.argsort(cost[best], kind="stable")]
            self.D[q], self.found[q] = np.nan, -1
            self.D[q, : len(best)], self.found[q, : len(best)] = scores[best], chosen[best]

    def _scores(self, chosen: NDArray[np.int32], q: int) -> Scores:
        from embedsearch.index.graph import walk

        scores = np.empty(len(chosen), np.float32)
        along, across, base = self.queries.along[q], self.queries.across[q], self.queries.bases[q]

        def answer(first: int, last: int) -> None:
            walk.score_nodes(self.graph, chosen, along, across, base, scores, first, last)

        in_slices(answer, len(chosen))
        return scores

    def answers(self) -> tuple[Scores, Rows]:
        rows: Rows = self.nodes.rows[self.found].astype(np.int64)
        rows[self.found < 0] = -1
        return self.D, rows
