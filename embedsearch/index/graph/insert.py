"""Making the graph: nodes are linked batch by batch to the near ones that a walk finds, and those back to them.

Batches of growing size are the parallel construction of Manohar et al. ("ParlayANN", 2024): within a batch
nobody sees anybody else, so the graph does not depend on threads. Links are chosen by the rule of DiskANN
(Subramanya et al., 2019): a candidate is left out when a link chosen before it is nearer to it than the node
itself is, by the factor alpha.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from embedsearch.compiled.compiling import compiled
from embedsearch.index.graph.vector_ops import l2_bytes, prefetch
from embedsearch.index.graph.walk import N_SEEN, node_of, walk

_MOST_NEW = 4096  # links back that are looked at for one node in one batch


@njit(inline="always")
def _choose(graph, nodes, distances, agreed, count, alpha, fresh, out, place):
    """Writes the links chosen among candidates (nearest first) to out[place:][:degree], -1 behind the last; how many.

    agreed: bool per candidate; of these none leaves out another, for they were chosen together before. fresh: room
    for `degree` numbers. Of nodes with the same code the rule would keep one, and lose the others to every walk; so a
    quarter of the links may be to such.
    """
    n, n_fresh, n_same, width, degree = 0, 0, 0, graph.width, graph.degree
    for candidate in range(count):
        node, limit = nodes[candidate], np.float32(distances[candidate])
        keep = True
        if limit == 0:
            keep = n_same < degree // 4
            n_same += 1
        else:
            for number in range(n_fresh if agreed[candidate] else n):
                other = out[place + (fresh[number] if agreed[candidate] else number)]
                between = l2_bytes(graph.heads, np.intp(node) * width, graph.heads, np.intp(other) * width, width)
                if alpha * np.float32(between) <= limit:
                    keep = False
                    break
        if keep:
            out[place + n] = node
            if not agreed[candidate]:
                fresh[n_fresh] = n
                n_fresh += 1
            n += 1
            if n == degree:
                break
    for rest in range(n, degree):
        out[place + rest] = -1
    return n


@compiled
def find_links(graph, batch, entries, size, alpha, chosen, n_agreed, first, last):
    """For batch[first:last], the links each would take, into `chosen` (flat, `degree` a node), and how many into
    `n_agreed` (int32 per node)."""
    degree = graph.degree
    beam, seen, met = np.empty(size, np.uint64), np.empty(N_SEEN, np.int32), np.empty(degree, np.int32)
    nodes, distances = np.empty(size, np.int32), np.empty(size, np.int32)
    agreed, fresh = np.zeros(size, np.bool_), np.empty(degree, np.int32)
    everything, unused = np.empty(0, np.bool_), np.empty(1, np.uint64)
    for place in range(first, last):
        node = batch[place]
        at_node = np.intp(node) * graph.width
        count, _ = walk(graph, graph.heads, at_node, entries[place], beam, seen, met, everything, unused)
        n = 0
        for key in beam[:count]:
            if node_of(key) != node:  # an entry meets itself
                nodes[n], distances[n] = node_of(key), np.int32(key >> np.uint64(32))
                n += 1
        n_agreed[node] = _choose(graph, nodes, distances, agreed, n, alpha, fresh, chosen, np.intp(place) * degree)


@compiled
def link_back(graph, targets, starts, sources, alpha, n_agreed, first, last):
    """Links each of targets[first:last] to sources[starts[i]:starts[i + 1]]; where that is too many, chooses anew.

    n_agreed: int32 per node: so many of its first links were chosen together. Comparing them again would be most of the
    work of making a graph.
    """
    heads, width, links, degree = graph.heads, graph.width, graph.links, graph.degree
    nodes = np.empty(degree + _MOST_NEW, np.int32)
    distances = np.empty(degree + _MOST_NEW, np.int32)
    agreed, fresh = np.empty(degree + _MOST_NEW, np.bool_), np.empty(degree, np.int32)
    for at in range(first, last):
        target = targets[at]
        place = np.intp(target) * degree
        n = 0
        while n < degree and links[place + n] >= 0:
            nodes[n] = links[place + n]
            n += 1
        for source in sources[starts[at] : min(starts[at + 1], starts[at] + _MOST_NEW)]:
            if not _holds(nodes, n, source):
                nodes[n] = source
                n += 1
        if n <= degree:
            links[place : place + n] = nodes[:n]
            continue
        for i in range(n):
            prefetch(heads, np.intp(nodes[i]) * width, width, 1)
        for i in range(n):  # sorted by distance, then by node
            node = nodes[i]
            distance = l2_bytes(heads, np.intp(target) * width, heads, np.intp(node) * width, width)
            is_agreed = i < n_agreed[target]
            j = i
            while j > 0 and (distances[j - 1] > distance or (distances[j - 1] == distance and nodes[j - 1] > node)):
                nodes[j], distances[j], agreed[j] = nodes[j - 1], distances[j - 1], agreed[j - 1]
                j -= 1
            nodes[j], distances[j], agreed[j] = node, distance, is_agreed
        n_agreed[target] = _choose(graph, nodes, distances, agreed, n, alpha, fresh, links, place)


@njit(inline="always")
def _holds(nodes, n, node):
    for i in range(n):  # noqa: SIM110 - compiled as it stands
        if nodes[i] == node:
            return True
    return False
