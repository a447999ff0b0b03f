"""The walk: from entries along links to ever nearer nodes, with a beam of the best met so far.

Beam search as in Malkov & Yashunin (2018, the ground floor of HNSW) and Subramanya et al. ("DiskANN", 2019).
A beam is sorted uint64 keys: distance << 32 | node << 1 | expanded, so that one comparison orders by
distance, then by node.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from embedsearch.compiled.compiling import compiled
from embedsearch.index.graph.vector_ops import dot, l2_bytes, prefetch

N_SEEN = 8192  # slots that remember nodes; a forgotten one is met again, which costs time and changes nothing


@njit(inline="always")
def _slot(node):
    return (node * 40503) & (N_SEEN - 1)


@njit(inline="always")
def node_of(key):
    return np.int32((key & np.uint64(0xFFFFFFFF)) >> np.uint64(1))


@njit(inline="always")
def _key(distance, node):
    return (np.uint64(distance) << np.uint64(32)) | (np.uint64(node) << np.uint64(1))


@njit(inline="always")
def insert_key(beam, count, key):
    """Puts `key` in its place among the first `count` of `beam`; its place, or -1 when it stays out."""
    size = len(beam)
    if count == size and key >= beam[count - 1]:
        return -1
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if beam[middle] < key:
            low = middle + 1
        else:
            high = middle
    if low < count and (beam[low] | np.uint64(1)) == (key | np.uint64(1)):
        return -1
    last = count if count < size else size - 1
    while last > low:
        beam[last] = beam[last - 1]
        last -= 1
    beam[low] = key
    return low


@njit(inline="always")
def walk(graph, query, place, entries, beam, seen, met, allowed, found):
    """Fills `beam` with the nearest nodes met; how many there are, and how many in `found`.

    query: uint8, its code at `place`. entries: nodes to begin at.
    beam: uint64, its length is the size of the beam. seen: int32 N_SEEN. met: int32 degree. allowed: bool per
    node, or empty: then all are, and `found` is not used; else the nearest allowed ones are put there.
    """
    heads, width, links, degree = graph.heads, graph.width, graph.links, graph.degree
    filtered = len(allowed) > 0
    seen[:] = -1
    count = n_found = 0
    for node in entries:
        if seen[_slot(node)] == node:
            continue
        seen[_slot(node)] = node
        key = _key(l2_bytes(heads, np.intp(node) * width, query, place, width), node)
        if insert_key(beam, count, key) >= 0:
            count = min(count + 1, len(beam))
        if filtered and allowed[node] and insert_key(found, n_found, key) >= 0:
            n_found = min(n_found + 1, len(found))
    current = 0
    while current < count:
        if beam[current] & np.uint64(1):
            current += 1
            continue
        beam[current] |= np.uint64(1)
        row = np.intp(node_of(beam[current])) * degree
        n_met = 0
        for step in range(degree):
            node = links[row + step]
            if node < 0:
                break
            if seen[_slot(node)] != node:
                seen[_slot(node)] = node
                met[n_met] = node
                n_met += 1
                prefetch(heads, np.intp(node) * width, width, 1)
        following = current + 1
        for step in range(n_met):
            node = met[step]
            key = _key(l2_bytes(heads, np.intp(node) * width, query, place, width), node)
            where = insert_key(beam, count, key)
            if where >= 0:
                count = min(count + 1, len(beam))
                if where < following:
                    following = where
                    prefetch(links, np.intp(node) * degree, degree, 4)
            if filtered and allowed[node] and insert_key(found, n_found, key) >= 0:
                n_found = min(n_found + 1, len(found))
        current = following
    return count, n_found


@njit(inline="always")
def score(graph, node, along, across, base):
    """Likeness of a decoded node to a query, in the metric's own unit."""
    product = graph.step * dot(graph.heads, np.intp(node) * graph.width, along, np.float32(128.0))
    product += graph.scales[node] * dot(graph.residuals, np.intp(node) * graph.dim, across, np.float32(0.0))
    if graph.euclidean:
        return max(base + graph.norms[node] - np.float32(2.0) * product, np.float32(0.0))
    return base + product


@njit(inline="always")
def _put(node, value, n, euclidean, D, rows):
    """Puts a node in its place among the n best so far; how many there are then."""
    k = len(D)
    if n == k and (value >= D[k - 1] if euclidean else value <= D[k - 1]):
        return n
    at = n if n < k else k - 1
    while at > 0 and (D[at - 1] > value if euclidean else D[at - 1] < value):
        D[at], rows[at] = D[at - 1], rows[at - 1]
        at -= 1
    D[at], rows[at] = value, node
    return min(n + 1, k)


@njit(inline="always")
def rank_best(graph, keys, count, long, along, across, base, D, rows):
    """The best of `count` nodes, and of the nodes `long`, by their scores, best first, into D and rows; NaN and -1
    where there are none. long: those of graph.long that are allowed."""
    k, n = len(D), 0
    first_long = graph.long[0] if len(graph.long) else np.int32(2147483647)
    for place in range(count):
        prefetch(graph.residuals, np.intp(node_of(keys[place])) * graph.dim, graph.dim, 1)
    for place in range(count):
        node = node_of(keys[place])
        if node < first_long:
            n = _put(node, score(graph, node, along, across, base), n, graph.euclidean, D, rows)
    for node in long:
        n = _put(node, score(graph, node, along, across, base), n, graph.euclidean, D, rows)
    for place in range(n, k):
        D[place], rows[place] = np.nan, -1


@compiled
def walk_queries(graph, queries, order, allowed, size, n_ranked, least, D, nodes, first, last):
    """Answers the queries order[first:last] by a walk: D float32 and nodes int64, both n x k.

    size: of the beam. n_ranked: how many of what was met are ranked by their scores. least: of a full beam so many
    have to be allowed; else the query lies where few are, and its nodes are -1.
    """
    beam, found = np.empty(size, np.uint64), np.empty(n_ranked, np.uint64)
    seen, met = np.empty(N_SEEN, np.int32), np.empty(graph.degree, np.int32)
    long = graph.long if len(allowed) == 0 else graph.long[allowed[graph.long]]
    for q in order[first:last]:
        count, n_found = walk(graph, queries.heads[q], 0, queries.entries[q], beam, seen, met, allowed, found)
        if len(allowed) > 0 and count == size:
            n_allowed = 0
            for place in range(count):
                n_allowed += allowed[node_of(beam[place])]
            if n_allowed < least:
                nodes[q] = -1
                continue
        keys = found if len(allowed) > 0 else beam
        n = n_found if len(allowed) > 0 else min(count, n_ranked)
        rank_best(graph, keys, n, long, queries.along[q], queries.across[q], queries.bases[q], D[q], nodes[q])


@compiled
def scan_queries(graph, queries, order, among, n_ranked, D, nodes, first, last):
    """As `walk_queries`, meeting each of the nodes `among` (ascending) instead of walking."""
    long = among[len(among) :]
    if len(graph.long):
        long = among[np.searchsorted(among, graph.long[0]) :]
    beam = np.empty(n_ranked, np.uint64)
    for q in order[first:last]:
        count = 0
        for node in among:
            distance = l2_bytes(graph.heads, np.intp(node) * graph.width, queries.heads[q], 0, graph.width)
            if insert_key(beam, count, _key(distance, node)) >= 0:
                count = min(count + 1, n_ranked)
        rank_best(graph, beam, count, long, queries.along[q], queries.across[q], queries.bases[q], D[q], nodes[q])


@compiled
def score_nodes(graph, among, along, across, base, scores, first, last):
    """Scores of the nodes among[first:last] for one query, into `scores`."""
    for place in range(first, last):
        scores[place] = score(graph, among[place], along, across, base)
