"""What many people did, as ragged arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Items = NDArray[np.int64]
Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Histories:
    """One history a user, as the rows of a CSR matrix.

    starts: int64 n_users + 1, where each begins in the others. items: int64, any numbering from 0. weights: float64;
    above 0 an item is liked, the more the larger, below 0 it is disliked, and 0 says only that it is known.
    """

    starts: Items
    items: Items
    weights: Weights

    @classmethod
    def of(cls, lists: Sequence[tuple[Items, Weights]]) -> Self:
        """From the items and weights of each user."""
        starts = np.zeros(len(lists) + 1, np.int64)
        np.cumsum([len(items) for items, _ in lists], out=starts[1:])
        if not lists:
            return cls(starts, np.empty(0, np.int64), np.empty(0))
        items = np.concatenate([items for items, _ in lists]).astype(np.int64)
        return cls(starts, items, np.concatenate([weights for _, weights in lists]).astype(np.float64))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> Items:
        """Entries of each user."""
        return np.diff(self.starts)

    @property
    def users(self) -> Items:
        """The user of each entry."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @property
    def liked(self) -> Self:
        """Entries that pull."""
        return self.where(self.weights > 0)

    @property
    def disliked(self) -> Self:
        """Entries that push, with the sizes of their weights."""
        pushing = self.where(self.weights < 0)
        return type(self)(pushing.starts, pushing.items, -pushing.weights)

    @property
    def relative(self) -> Self:
        """The same, each user's weights divided by the largest in size: only their ratios matter, and sizes far from 1
        would be lost in float32."""
        sizes, some = np.zeros(len(self)), np.flatnonzero(self.sizes)
        if len(some):
            sizes[some] = np.maximum.reduceat(np.abs(self.weights), self.starts[some])
        divisors = np.where(sizes > 0, sizes, 1)[self.users]
        return type(self)(self.starts, self.items, self.weights / divisors)

    def summed(self, n_items: int) -> Self:
        """The same, where an item below n_items comes several times in one history: the sum stands at its first entry,
        the others weigh 0."""
        keys = np.where(self.items < n_items, self.users * n_items + self.items, -1)
        if (keys[1:] > keys[:-1]).all():  # as in a matrix
            return self
        own = np.flatnonzero(keys >= 0)
        unique, first, at = np.unique(keys[own], return_index=True, return_inverse=True)
        if len(unique) == len(own):
            return self
        weights = self.weights.copy()
        weights[own] = 0
        weights[own[first]] = np.bincount(at, self.weights[own])
        return type(self)(self.starts, self.items, weights)

    def where(self, kept: NDArray[np.bool_]) -> Self:
        """Some of the entries, of the same users."""
        sizes = np.bincount(self.users[kept], minlength=len(self))
        return type(self)(_ends(sizes), self.items[kept], self.weights[kept])

    def of_users(self, users: Items) -> Self:
        """The histories of some users, in that order."""
        sizes = self.sizes[users]
        starts = _ends(sizes)
        entries = np.arange(starts[-1]) - np.repeat(starts[:-1] - self.starts[users], sizes)
        return type(self)(starts, self.items[entries], self.weights[entries])

    def renumbered(self, numbers: Items) -> Self:
        """Items in another numbering; those that it lacks (-1) fall out."""
        moved = numbers[self.items]
        return type(self)(self.starts, moved, self.weights).where(moved >= 0)

    def per_user(self, values: Weights) -> Weights:
        """Sums of one value an entry over each user."""
        return np.bincount(self.users, values, minlength=len(self)).astype(np.float64)


def _ends(sizes: Items) -> Items:
    starts = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    return starts
