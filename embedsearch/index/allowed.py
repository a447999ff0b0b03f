"""What families make of the rows that may be answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
T = TypeVar("T")
# under a filter a search of a graph is made wide enough for so many times the allowed rows that an unfiltered one looks
# at; a query that meets a smaller share of those than the second lies apart from what is allowed
SPARE, LEAST_SHARE = 1.25, 0.8


class MadeOnce(Generic[T]):
    """What a search makes of a mask of rows, kept for the next search with the same one where nobody can write to it.

    It takes time with the number of rows, which a search that follows a few deletions should not.
    """

    def __init__(self, make: Callable[[Mask], T]) -> None:
        self._make = make
        self._held: tuple[Mask, T] | None = None

    def of(self, allowed: Mask) -> T:
        held = self._held
        if held is not None and held[0] is allowed:
            return held[1]
        made = self._make(allowed)
        if not allowed.flags.writeable:
            self._held = allowed, made  # in one step: other threads are searching
        return made


@dataclass(frozen=True, slots=True)
class Selected:
    """Rows as FAISS selects them. mask: bool per row. n: how many are chosen. selector: FAISS's bitmap of them; it
    keeps what it points to alive."""

    mask: Mask
    n: int
    selector: Any

    @classmethod
    def of(cls, mask: Mask) -> Self:
        import faiss

        bits = np.packbits(mask, bitorder="little")
        chosen: Any = faiss.IDSelectorBitmap(len(mask), faiss.swig_ptr(bits))
        chosen.bits = bits
        return cls(mask, int(mask.sum()), chosen)

    @property
    def share(self) -> float:
        """Of all rows."""
        return self.n / max(len(self.mask), 1)
