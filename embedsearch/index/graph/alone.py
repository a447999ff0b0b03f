"""A single query, answered in one call: entering compiled code takes as long as some steps of a walk."""

from __future__ import annotations

import numpy as np

from embedsearch.compiled.compiling import compiled
from embedsearch.index.graph.arrays import Queries
from embedsearch.index.graph.prepare import prepare_queries
from embedsearch.index.graph.walk import walk_queries


@compiled
def answer_alone(space, graph, x, n_entries, size, D, nodes):
    """What `prepare_queries` and `walk_queries` do for x, float32 1 x D, into D and nodes, both 1 x k."""
    queries = Queries(
        np.empty((1, graph.width), np.uint8),
        np.empty((1, graph.width), np.float32),
        np.empty((1, graph.dim), np.float32),
        np.empty(1, np.float32),
        np.empty((1, n_entries), np.int32),
    )
    first, everything = np.zeros(1, np.int64), np.empty(0, np.bool_)
    prepare_queries(space, x, queries, first, 0, 1)
    first[0] = 0
    walk_queries(graph, queries, first, everything, size, size, 0, D, nodes, 0, 1)
