"""The votes of many lists, counted for many users at once: a sparse product, and the best of each of its rows.

Every list gives votes (user, row, value). Those for one row of one user are put together, as their sum or their
largest, rows that are known to the user fall out, and the best remain. Both steps sort packed 64-bit keys, which
numpy does with vector instructions; that is what makes it fast without code of our own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedsearch.best import Rows, Scores, best_first

Together = Literal["sum", "max"]

_USERS, _VOTES = 256, 2**22  # of one step, so that a key has room for user, value and place


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates of each user, best first: rows int64 and scores float32, both n_users x depth; -1 and NaN fill the
    end. complete: bool per user, True where nothing else could be one."""

    rows: Rows
    scores: Scores
    complete: NDArray[np.bool_]

    @property
    def n_found(self) -> Rows:
        """Candidates of each user."""
        return np.asarray((self.rows >= 0).sum(axis=1), np.int64)


def best_of_votes(
    users: Rows,
    rows: Rows,
    values: NDArray[np.float64],
    *,
    n_users: int,
    n_rows: int,
    known: Rows,
    depth: int,
    together: Together,
) -> tuple[Rows, Scores]:
    """The `depth` best rows of each user and their scores, n_users x depth, best first; -1 and NaN fill the end.

    users: ascending, with one row (-1: none) and one value for each vote. known: ascending keys user * n_rows + row
    that are no answers. Rows are put in order by float64; those that tie come in ascending order.
    """
    found = np.full((n_users, depth), -1, np.int64)
    scores = np.full((n_users, depth), np.nan, np.float32)
    ends = np.searchsorted(users, np.arange(n_users + 1))
    for first, last in _steps(ends):
        span = slice(ends[first], ends[last])
        cast = rows[span] >= 0
        keys = (users[span][cast] - first) * n_rows + rows[span][cast]
        keys, sums = _put_together(keys, values[span][cast], (last - first) * n_rows, together)
        inside = known[np.searchsorted(known, first * n_rows) : np.searchsorted(known, last * n_rows)] - first * n_rows
        at = np.searchsorted(keys, inside)
        hit = at < len(keys)
        hit[hit] = keys[at[hit]] == inside[hit]
        kept = np.ones(len(keys), np.bool_)
        kept[at[hit]] = False
        keys, sums = keys[kept], sums[kept]
        top = _top(keys // n_rows, sums, last - first, depth)
        owner = keys[top] // n_rows
        place = np.arange(len(owner)) - np.searchsorted(owner, np.arange(last - first))[owner]
        found[owner + first, place] = keys[top] % n_rows
        scores[owner + first, place] = sums[top]
    return found, scores


def _steps(ends: Rows) -> Iterator[tuple[int, int]]:
    """Ranges of users with few enough votes; one user at least."""
    first, n_users = 0, len(ends) - 1
    while first < n_users:
        last = int(np.searchsorted(ends, ends[first] + _VOTES, side="right")) - 1
        last = min(max(last, first + 1), first + _USERS, n_users)
        yield first, last
        first = last


def _put_together(
    keys: Rows, values: NDArray[np.float64], most: int, together: Together
) -> tuple[Rows, NDArray[np.float64]]:
    """Each key once, ascending, with the sum or the largest of its values."""
    if len(keys) == 0:
        return keys, values
    bits = max(len(keys) - 1, 1).bit_length()
    if most.bit_length() + bits <= 64:
        packed = np.sort(keys.astype(np.uint64) << np.uint64(bits) | np.arange(len(keys), dtype=np.uint64))
        order = (packed & np.uint64(2**bits - 1)).astype(np.int64)
    else:
        order = np.argsort(keys, kind="stable")
    keys = keys[order]
    begins = np.flatnonzero(np.diff(keys, prepend=-1))
    ufunc = np.add if together == "sum" else np.maximum
    return keys[begins], ufunc.reduceat(values[order], begins)


def _top(owner: Rows, sums: NDArray[np.float64], n_owners: int, depth: int) -> Rows:
    """Places of the `depth` best sums of each owner (from 0, ascending), by owner and best first. A fast order by
    float32 says which they may be; what is level there is parted by float64."""
    if not len(owner) or not depth:
        return np.empty(0, np.int64)
    rough = sums.astype(np.float32)
    order = best_first(owner, rough)
    owner, rough = owner[order], rough[order]
    ends = np.searchsorted(owner, np.arange(n_owners + 1))
    worst = rough[np.minimum(ends[:-1] + depth, ends[1:]) - 1]  # of an owner without any it is not looked at
    may = rough >= worst[owner]
    order, owner = order[may], owner[may]
    order = order[np.lexsort((-sums[order], owner))]
    place = np.arange(len(owner)) - np.searchsorted(owner, np.arange(n_owners))[owner]
    top: Rows = order[place < depth]
    return top
