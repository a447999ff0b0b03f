"""A way to every node: what no link leads to is never found."""

from __future__ import annotations

import numpy as np
from numba import njit

from embedsearch.compiled.compiling import compiled


@njit
def _spread(links, degree, before, waiting, n_waiting):
    """Goes on from the nodes waiting[:n_waiting] to all that they lead to; `before` is told from where."""
    while n_waiting:
        n_waiting -= 1
        source = waiting[n_waiting]
        for step in range(degree):
            node = links[np.intp(source) * degree + step]
            if node < 0:
                break
            if before[node] < 0:
                before[node] = source
                waiting[n_waiting] = node
                n_waiting += 1


@njit
def _ways(links, degree, entries, waiting, n):
    before = np.full(n, -1, np.int32)
    n_waiting = 0
    for node in entries:
        if before[node] < 0:
            before[node] = node
            waiting[n_waiting] = node
            n_waiting += 1
    _spread(links, degree, before, waiting, n_waiting)
    return before


@compiled
def reached(links, degree, entries, n):
    """For each of n nodes, whether links lead to it from one of `entries`."""
    return _ways(links, degree, entries, np.empty(n, np.int32), n) >= 0


@njit
def _place_for(links, degree, before, source):
    """A link of `source` that can be given up: a free one, or one to a node that is reached from elsewhere; or -1."""
    if before[source] < 0:
        return -1
    for step in range(degree):
        node = links[np.intp(source) * degree + step]
        if node < 0 or before[node] != source:
            return step
    return -1


@compiled
def reach_all(links, degree, entries, nodes, n_agreed):
    """Gives each of `nodes` that no way leads to a link from one of its own links, or else from an entry or any other
    node; how many those were.

    Of the ways that were found to all others none is cut: only links that are no part of one are replaced. n_agreed:
    see insert.link_back; a link that is given here was chosen together with no other.
    """
    n = len(n_agreed)
    waiting = np.empty(n, np.int32)
    before = _ways(links, degree, entries, waiting, n)
    n_lost = 0
    for node in nodes:
        if before[node] >= 0:
            continue
        n_lost += 1
        source, place = np.int32(-1), -1
        for step in range(degree):
            source = links[np.intp(node) * degree + step]
            place = -1 if source < 0 else _place_for(links, degree, before, source)
            if source < 0 or place >= 0:
                break
        if place < 0:
            for source in entries:
                place = _place_for(links, degree, before, source)
                if place >= 0:
                    break
        if place < 0:
            for source in nodes:
                place = _place_for(links, degree, before, source)
                if place >= 0:
                    break
        if place < 0:
            continue
        links[np.intp(source) * degree + place] = node
        n_agreed[source] = min(n_agreed[source], np.int32(place))
        before[node] = source
        waiting[0] = node
        _spread(links, degree, before, waiting, 1)
    return n_lost
