"""The best rows of many queries, of scores that come a block at a time.

FAISS keeps a heap a query and offers it every score. In a large batch that takes longer than the products themselves;
here a block of scores is compared with the worst that is still wanted, and only what is better is looked at again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]

QUERIES = 256  # of one `Best`: so many rows of scores stay near the processor
_PENDING = 4  # better ones are put in order when there are so many times as many as are wanted


class Best:
    """The k best of each of n queries, so far. A larger score is better; of equal ones the earlier row is.

    limit: float32 n x 1, the k-th best so far, -inf where there are fewer: less is not wanted any more.
    """

    def __init__(self, n: int, k: int) -> None:
        self.limit = np.full((n, 1), -np.inf, np.float32)
        self._n, self._k = n, k
        self._held: list[tuple[Rows, Rows, Scores]] = []
        self._n_held = 0
        # memory that is taken anew for each block is cleared anew, which takes as long as the products
        self._mask = np.empty(0, np.bool_)

    def offer(self, scores: Scores, rows: Rows) -> None:
        """scores: float32 n x m, C order, -inf where a row is no answer. rows: int64 m, or n x m."""
        if self._mask.size < scores.size:
            self._mask = np.empty(scores.size, np.bool_)
        mask = self._mask[: scores.size].reshape(scores.shape)
        better = _places(np.greater(scores, self.limit, out=mask))
        owner, column = np.divmod(better, max(scores.shape[1], 1))
        self._held.append((owner, rows[column] if rows.ndim == 1 else rows.ravel()[better], scores.ravel()[better]))
        self._n_held += len(better)
        if self._n_held > _PENDING * self._n * self._k or np.isneginf(self.limit).any():
            self.settle()

    def settle(self) -> None:
        """Makes `limit` what it is by all that was offered."""
        if not self._held:
            return
        owner, rows, scores = (np.concatenate(parts) for parts in zip(*self._held, strict=True))
        order = best_first(owner, scores)
        owner = owner[order]
        starts = np.searchsorted(owner, np.arange(self._n))
        kept = np.arange(len(owner)) - starts[owner] < self._k
        owner, rows, scores = owner[kept], rows[order[kept]], scores[order[kept]]
        self._held, self._n_held = [(owner, rows, scores)], len(owner)
        full = np.bincount(owner, minlength=self._n) == self._k
        last = np.searchsorted(owner, np.arange(self._n), side="right") - 1
        self.limit[full, 0] = scores[last[full]]

    def ranked(self) -> tuple[Rows, Scores]:
        """Rows and scores, both n x k, best first; -1 and -inf fill the end."""
        rows = np.full((self._n, self._k), -1, np.int64)
        scores = np.full((self._n, self._k), -np.inf, np.float32)
        self.settle()
        for owner, found, theirs in self._held:
            place = np.arange(len(owner)) - np.searchsorted(owner, np.arange(self._n))[owner]
            rows[owner, place], scores[owner, place] = found, theirs
        return rows, scores


def _places(mask: NDArray[np.bool_]) -> Rows:
    """Where a mask, most of which is False, is True: eight places at a time are passed over."""
    flat = mask.ravel()
    if flat.size % 8:
        return np.flatnonzero(flat)
    words = np.flatnonzero(flat.view(np.uint64))
    word, byte = np.nonzero(flat.reshape(-1, 8)[words])
    return words[word] * 8 + byte


def best_first(owner: Rows, scores: Scores) -> Rows:
    """The order by owner (from 0), then by score (no NaN), best first, then by place.

    Packed 64-bit keys are sorted, which numpy does with vector instructions.
    """
    if len(owner) == 0:
        return owner
    bits = max(len(owner) - 1, 1).bit_length()
    if int(owner.max()).bit_length() + 32 + bits > 64:
        return np.lexsort((-scores, owner))
    raw = (scores + np.float32(0)).view(np.uint32)  # -0 is 0
    # the larger a float, the smaller this number
    falling = np.where(raw >> 31, raw, ~raw & np.uint32(2**31 - 1)).astype(np.uint64)
    packed = owner.astype(np.uint64) << np.uint64(32 + bits) | falling << np.uint64(bits)
    packed |= np.arange(len(owner), dtype=np.uint64)
    packed.sort()
    return (packed & np.uint64(2**bits - 1)).astype(np.int64)
